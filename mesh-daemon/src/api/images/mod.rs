//! Images of this node: list, inspect, load, pull, remove. What is kept, and how, is the runtime's.
//!
//! Names go in and out as Docker writes them, `web:1`; the runtime has them whole,
//! `docker.io/library/web:1`.

mod load;
mod pull;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use oci_client::Reference;

use super::error::Error;
use super::query::Params;
use super::{Shared, refusal, wire};
use crate::runtime::images::{Digest, ImageSummary};

pub(super) use load::load;
pub(super) use pull::{credentials, pull, registry_auth};

type Api = State<Arc<Shared>>;

/// What Docker leaves out of a name.
const HUB: &str = "docker.io/";
const LIBRARY: &str = "docker.io/library/";

/// A name as people write it.
pub(super) fn familiar(whole: &str) -> String {
    whole.strip_prefix(LIBRARY).or_else(|| whole.strip_prefix(HUB)).unwrap_or(whole).to_owned()
}

/// A name as the runtime has it; None if it is none.
fn whole(name: &str) -> Option<String> {
    name.parse::<Reference>().ok().map(|reference| reference.whole())
}

/// Names with digests: what a registry may be asked for again.
fn digests(image: &ImageSummary) -> Vec<String> {
    let digest = image.index.as_ref().unwrap_or(&image.manifest);
    let repository = |name: &String| {
        let familiar = familiar(name);
        let cut = familiar.rfind(':').filter(|at| !familiar[*at..].contains('/')).unwrap_or(familiar.len());
        format!("{}@{digest}", familiar[..cut].split('@').next().unwrap_or_default())
    };
    let mut all: Vec<_> = image.names.iter().map(repository).collect();
    all.dedup();
    all
}

fn tags(image: &ImageSummary) -> Vec<String> {
    image.names.iter().filter(|name| !name.contains('@')).map(|name| familiar(name)).collect()
}

pub(super) async fn list(State(api): Api, params: Params) -> Result<Json<Vec<wire::ImageSummary>>, Error> {
    let filters = params.filters(&["reference", "dangling"])?;
    let dangling = filters.truth("dangling")?;
    let images = api.runtime().images().await.map_err(|error| refusal(&error))?;
    let fits = |image: &ImageSummary| {
        let named = filters.any("reference", |wanted| {
            let of = |name: &str| name == wanted || name.rsplit_once(':').is_some_and(|(name, _)| name == wanted);
            tags(image).iter().any(|name| of(name))
        });
        named && dangling.is_none_or(|dangling| dangling == image.names.is_empty())
    };
    let mut all: Vec<_> = images.iter().filter(|image| fits(image)).map(summary).collect();
    all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.repo_tags.cmp(&b.repo_tags)));
    Ok(Json(all))
}

/// All of them, with how many containers are made of each, and how many bytes they are together.
pub(super) async fn used(api: &Shared) -> Result<(Vec<wire::ImageSummary>, u64), Error> {
    let images = api.runtime().images().await.map_err(|error| refusal(&error))?;
    let containers = api.runtime().list().await.map_err(|error| refusal(&error))?;
    let parts = parts(&images);
    let used = |image: &ImageSummary| {
        let of = containers.iter().filter(|one| one.image_id == image.id.to_string()).count();
        let counted = i64::try_from(of).unwrap_or(i64::MAX);
        let shared_size = i64::try_from(shared(image, &parts)).unwrap_or(i64::MAX);
        wire::ImageSummary { containers: counted, shared_size, ..summary(image) }
    };
    Ok((images.iter().map(used).collect(), parts.values().map(|(bytes, _)| bytes).sum()))
}

/// The parts of all images, each once: its bytes, and how many images have it.
fn parts(all: &[ImageSummary]) -> BTreeMap<&Digest, (u64, usize)> {
    let mut parts = BTreeMap::new();
    for (part, bytes) in all.iter().flat_map(|image| &image.parts) {
        parts.entry(part).or_insert((*bytes, 0)).1 += 1;
    }
    parts
}

/// The bytes of an image that others have too.
fn shared(image: &ImageSummary, parts: &BTreeMap<&Digest, (u64, usize)>) -> u64 {
    let have = |part: &Digest| parts.get(part).is_some_and(|(_, images)| *images > 1);
    image.parts.iter().filter(|(part, _)| have(part)).map(|(_, bytes)| bytes).sum()
}

fn summary(image: &ImageSummary) -> wire::ImageSummary {
    let created = image.created.as_ref().and_then(|created| created.parse::<Timestamp>().ok());
    wire::ImageSummary {
        id: image.id.to_string(),
        repo_tags: tags(image),
        repo_digests: digests(image),
        created: created.map_or(0, Timestamp::as_second),
        size: image.bytes(),
        // Not counted, in Docker's words.
        shared_size: -1,
        containers: -1,
        ..wire::ImageSummary::default()
    }
}

/// The image that a name, an id or the beginning of an id means.
async fn find(api: &Shared, name: &str) -> Result<ImageSummary, Error> {
    let images = api.runtime().images().await.map_err(|error| refusal(&error))?;
    let whole = whole(name);
    let by_name = |image: &&ImageSummary| {
        image.names.iter().any(|other| Some(other) == whole.as_ref())
            || digests(image).iter().any(|other| other == name)
    };
    if let Some(image) = images.iter().find(by_name) {
        return Ok(image.clone());
    }
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    let hex = id.len() >= 2 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let begins = |image: &&ImageSummary| image.id.to_string().trim_start_matches("sha256:").starts_with(id);
    let mut found = images.iter().filter(|image| hex && begins(image));
    match (found.next(), found.count()) {
        (Some(image), 0) => Ok(image.clone()),
        (Some(_), more) => Err(Error::Ambiguous { what: "image", name: name.to_owned(), matches: more + 1 }),
        (None, _) => Err(absent(name)),
    }
}

fn absent(name: &str) -> Error {
    let tagged = if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
    Error::Refused { status: StatusCode::NOT_FOUND, message: format!("No such image: {tagged}") }
}

/// `GET /images/NAME/json`: names have slashes.
pub(super) async fn inspect(State(api): Api, Path(rest): Path<String>) -> Result<Json<wire::ImageDetails>, Error> {
    let name = rest.strip_suffix("/json").ok_or(Error::NoPage)?;
    let image = find(&api, name).await?;
    Ok(Json(wire::ImageDetails {
        id: image.id.to_string(),
        repo_tags: tags(&image),
        repo_digests: digests(&image),
        created: image.created.clone().unwrap_or_default(),
        // The runtime keeps the variant for this machine only.
        architecture: super::system::go_arch().to_owned(),
        os: "linux".to_owned(),
        size: image.bytes(),
        ..wire::ImageDetails::default()
    }))
}

/// `DELETE /images/NAME`.
pub(super) async fn remove(
    State(api): Api,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Vec<wire::ImageRemoved>>, Error> {
    let image = find(&api, &name).await?;
    let whole = whole(&name).filter(|whole| image.names.contains(whole));
    let names = match whole {
        Some(one) => vec![one],
        None if image.names.len() > 1 && !params.flag("force") => {
            let message = format!(
                "conflict: unable to delete {name} (must be forced) - image is referenced in multiple repositories"
            );
            return Err(Error::Refused { status: StatusCode::CONFLICT, message });
        }
        None => image.names.clone(),
    };
    let mut done = Vec::new();
    for name in &names {
        api.runtime().remove_image(name).await.map_err(|error| refusal(&error))?;
        done.push(wire::ImageRemoved { untagged: familiar(name), ..wire::ImageRemoved::default() });
    }
    if names.len() == image.names.len() {
        done.push(wire::ImageRemoved { deleted: image.id.to_string(), ..wire::ImageRemoved::default() });
    }
    Ok(Json(done))
}

/// `POST /images/NAME/ACT`.
pub(super) async fn act(Path(_): Path<String>) -> Response {
    super::containers::unserved("tag or push an image: load it by the name it should have, or push it elsewhere")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_people_write_them() {
        for (whole_name, shown) in [
            ("docker.io/library/web:1", "web:1"),
            ("docker.io/me/web:1", "me/web:1"),
            ("10.0.0.1:5000/web:1", "10.0.0.1:5000/web:1"),
        ] {
            assert_eq!(familiar(whole_name), shown);
            assert_eq!(whole(shown).as_deref(), Some(whole_name));
        }
        assert_eq!(whole("web").as_deref(), Some("docker.io/library/web:latest"));
        assert_eq!(whole("UPPER"), None);
    }

    #[test]
    fn a_name_with_a_digest_has_no_tag() {
        let digest = crate::runtime::images::Digest::of(b"x");
        let image = |name: &str| ImageSummary {
            names: vec![name.to_owned()],
            manifest: digest.clone(),
            index: None,
            id: digest.clone(),
            created: None,
            parts: BTreeMap::from([(digest.clone(), 1)]),
        };
        for (name, repository) in
            [("docker.io/library/web:1", "web"), ("r:5000/web:1", "r:5000/web"), ("r:5000/web", "r:5000/web")]
        {
            assert_eq!(digests(&image(name)), [format!("{repository}@{digest}")]);
        }
    }

    #[test]
    fn a_layer_of_two_images_is_shared_and_counted_once() {
        let digest = |of: &str| Digest::of(of.as_bytes());
        let image = |name: &str, of: &[(&str, u64)]| ImageSummary {
            names: vec![name.to_owned()],
            manifest: digest(name),
            index: None,
            id: digest(name),
            created: None,
            parts: of.iter().map(|(part, bytes)| (digest(part), *bytes)).collect(),
        };
        let all = [image("a", &[("base", 100), ("a", 5)]), image("b", &[("base", 100), ("b", 7)])];
        assert_eq!(all.each_ref().map(ImageSummary::bytes), [105, 107]);
        let here = parts(&all);
        assert_eq!(all.each_ref().map(|one| shared(one, &here)), [100, 100]);
        assert_eq!(here.values().map(|(bytes, _)| bytes).sum::<u64>(), 112);
        assert_eq!(shared(&all[0], &parts(&all[..1])), 0);
    }
}
