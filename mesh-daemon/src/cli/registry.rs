//! What this user's machine knows of registries: who the user is there, as `docker login` kept it; and the
//! digest that a tag stands for.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::client::Client;
use crate::api::wire;

/// The header that says who asks a registry.
pub(super) const AUTH: &str = "X-Registry-Auth";

/// Where Docker Hub's users are kept.
const HUB: &str = "https://index.docker.io/v1/";

/// The registry that an image is of.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some(("docker.io" | "index.docker.io", _)) => HUB,
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => HUB,
    }
}

/// The header's value for an image, if the user is known to its registry.
///
/// # Errors
///
/// What is kept of logins cannot be read: a user who has one would not know why it is not used.
pub(super) fn auth(image: &str) -> Result<Option<String>> {
    let registry = registry(image);
    let Some(path) = settings_file() else { return Ok(None) };
    let settings: Value = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let helper = settings["credHelpers"][registry].as_str().or_else(|| settings["credsStore"].as_str());
    let found = match helper {
        Some(helper) => ask(helper, registry)?,
        None => kept(&settings["auths"][registry]),
    };
    Ok(found.map(|mut found| {
        found["serveraddress"] = registry.into();
        wire::base64::encode(found.to_string().as_bytes())
    }))
}

fn settings_file() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")))?;
    Some(folder.join("config.json"))
}

/// Of the settings themselves.
fn kept(entry: &Value) -> Option<Value> {
    if let Some(token) = entry["identitytoken"].as_str().filter(|token| !token.is_empty()) {
        return Some(json!({ "identitytoken": token }));
    }
    let pair = wire::base64::decode(entry["auth"].as_str()?)?;
    let pair = String::from_utf8(pair).ok()?;
    let (username, password) = pair.split_once(':')?;
    Some(json!({ "username": username, "password": password.trim_end_matches('\0') }))
}

/// Of a credential helper.
fn ask(helper: &str, registry: &str) -> Result<Option<Value>> {
    let program = format!("docker-credential-{helper}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that has ended without listening says why.
        let _ = stdin.write_all(registry.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // The words of the helpers' protocol for "nobody".
        ensure!(said.contains("credentials not found"), "{program}: {}", said.trim());
        return Ok(None);
    }
    let answer: Value = serde_json::from_str(&said).with_context(|| format!("understand {program}"))?;
    let (Some(user), Some(secret)) = (answer["Username"].as_str(), answer["Secret"].as_str()) else { return Ok(None) };
    Ok(Some(match user {
        "<token>" => json!({ "identitytoken": secret }),
        _ => json!({ "username": user, "password": secret }),
    }))
}

/// A name with the tag that it has if it says none.
pub(super) fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    if image.is_empty() || image.contains('@') || last.contains(':') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// Pins the image to what its tag means now, so that all nodes run the same, and says for which platforms
/// it is; a registry that does not answer leaves the tag, and the user is to be warned of it: then its name
/// is returned.
pub(super) fn pin(client: &Client, task: &mut wire::TaskSpec, auth: Option<&str>) -> Option<String> {
    let container = task.container_spec.as_mut()?;
    container.image = tagged(&container.image);
    if container.image.contains('@') || container.image.is_empty() {
        return None;
    }
    match distribution(client, &container.image, auth) {
        Ok(found) => {
            container.image = format!("{}@{}", container.image, found.descriptor.digest);
            if !found.platforms.is_empty() {
                let placement = task.placement.get_or_insert_with(wire::Placement::default);
                placement.platforms = found.platforms.iter().map(platform).collect();
            }
            None
        }
        Err(_) => Some(container.image.clone()),
    }
}

fn distribution(client: &Client, image: &str, auth: Option<&str>) -> Result<wire::Distribution> {
    let headers: Vec<_> = auth.map(|auth| (AUTH, auth.to_owned())).into_iter().collect();
    client.get_with(&format!("/distribution/{image}/json"), &headers)
}

/// As the docker CLI: what is built for one ARM may run on others.
fn platform(platform: &wire::ImagePlatform) -> wire::Platform {
    let architecture = if platform.architecture == "arm" { String::new() } else { platform.architecture.clone() };
    wire::Platform { architecture, os: platform.os.clone(), ..wire::Platform::default() }
}

#[expect(clippy::print_stderr, reason = "a warning beside the output that scripts read")]
pub(super) fn warn_of_tag(image: &str) {
    eprintln!(
        "image {image} could not be accessed on a registry to record\nits digest. Each node will access {image} independently,\npossibly leading to different nodes running different\nversions of the image.\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_of_the_registry_that_its_name_begins_with() {
        for (image, host) in [
            ("nginx", HUB),
            ("library/nginx:1", HUB),
            ("docker.io/me/web:1", HUB),
            ("10.0.0.1:5000/web", "10.0.0.1:5000"),
            ("localhost/web", "localhost"),
            ("ghcr.io/a/b:1", "ghcr.io"),
        ] {
            assert_eq!(registry(image), host);
        }
    }

    #[test]
    fn a_name_without_a_tag_gets_one() {
        for (image, expected) in [
            ("nginx", "nginx:latest"),
            ("a:5000/web", "a:5000/web:latest"),
            ("a:5000/web:1", "a:5000/web:1"),
            ("web@sha256:0", "web@sha256:0"),
        ] {
            assert_eq!(tagged(image), expected);
        }
    }

    #[test]
    fn a_login_is_read_as_docker_keeps_it() {
        let found = kept(&json!({ "auth": "dXNlcjpwYTpzcw==" })).unwrap();
        assert_eq!(found, json!({ "username": "user", "password": "pa:ss" }));
        assert_eq!(kept(&json!({})), None);
    }
}
