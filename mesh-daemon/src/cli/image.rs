//! `meshctl image`: the images of one node.

use std::fs::File;
use std::io::{IsTerminal as _, Read, stdin};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use jiff::Timestamp;

use super::client::{Client, escape, filter_pairs, filters};
use super::each::{self, Each, bare};
use super::listing::{Listing, Style, line};
use super::words::{ago, decimal, short};
use crate::api::wire;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Take the images of an archive: of docker save, or an OCI layout.
    Load {
        /// The archive; without it, standard input.
        #[arg(short, long)]
        input: Option<String>,
    },
    /// List images.
    Ls {
        #[command(flatten)]
        style: Style,
    },
    /// Print images as JSON.
    Inspect {
        /// By name or id.
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Fetch an image from its registry.
    Pull {
        /// Its name.
        image: String,
    },
    /// Remove images.
    Rm {
        /// By name or id.
        #[arg(required = true)]
        images: Vec<String>,
        /// Under all their names.
        #[arg(short, long)]
        force: bool,
    },
}

pub(super) fn run(client: &Client, command: Command) -> Result<()> {
    match command {
        Command::Load { input } => load(client, input.as_deref()),
        Command::Ls { style } => {
            let query = filters(&filter_pairs(&style.filter)?);
            let images: Vec<wire::ImageSummary> = client.get(&format!("/images/json{query}"))?;
            style.print(&images, |image| short(hex(&image.id)), list)
        }
        Command::Inspect { images } => each::inspect(client, &images, |image| format!("/images/{image}/json")),
        Command::Pull { image } => {
            let answer = client.post_raw(&format!("/images/create?fromImage={}", escape(&image)))?;
            told(&answer)
        }
        Command::Rm { images, force } => {
            let force = if force { "?force=1" } else { "" };
            Each::new(&images).remove(|image| client.delete(&format!("/images/{image}{force}")))
        }
    }
}

fn load(client: &Client, input: Option<&str>) -> Result<()> {
    let from: Box<dyn Read + Send> = match input {
        Some(path) => Box::new(File::open(path).with_context(|| format!("open {path}"))?),
        None if stdin().is_terminal() => {
            return Err(bare("requested load from stdin, but stdin is empty: name an archive by -i"));
        }
        None => Box::new(stdin()),
    };
    told(&client.upload("/images/load", from)?)
}

/// Prints the lines of a long answer; a failure is among them.
fn told(answer: &[u8]) -> Result<()> {
    for progress in serde_json::Deserializer::from_slice(answer).into_iter::<wire::Progress>() {
        let progress = progress.context("read the answer")?;
        if !progress.error.is_empty() {
            return Err(bare(progress.error));
        }
        line(format!("{}{}", progress.status, progress.stream.trim_end()))?;
    }
    Ok(())
}

/// An id without the name of its hash.
fn hex(id: &str) -> &str {
    id.split_once(':').map_or(id, |(_, hex)| hex)
}

fn list(images: &[wire::ImageSummary]) -> Listing {
    let mut listing = Listing::new(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    let now = Timestamp::now();
    for image in images {
        let created = Timestamp::from_second(image.created).map(|at| ago(&at.to_string(), now)).unwrap_or_default();
        let names = if image.repo_tags.is_empty() { vec!["<none>:<none>".to_owned()] } else { image.repo_tags.clone() };
        for name in names {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((&name, "<none>"));
            listing.push([
                repository.to_owned(),
                tag.to_owned(),
                short(hex(&image.id)),
                created.clone(),
                decimal(image.size),
            ]);
        }
    }
    listing
}
