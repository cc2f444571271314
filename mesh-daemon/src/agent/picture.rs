//! What the node was told, on disk: with it tasks and packet path go on after a restart, managers or not.

use std::path::{Path, PathBuf};

use crate::model::assignment::Picture;

/// It cannot be kept, or not be read again.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Its text.
    #[error("{} is damaged; remove it, and the node asks its managers anew", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PictureError + use<> {
    let path = path.to_owned();
    move |source| PictureError::File { what, path, source }
}

/// What was kept; nothing if nothing was.
///
/// # Errors
///
/// If the file cannot be read, or is damaged.
pub fn load(path: &Path) -> Result<Picture, PictureError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Picture::default()),
        Err(error) => Err(file("read", path)(error)),
        Ok(json) => {
            serde_json::from_slice(&json).map_err(|source| PictureError::Json { path: path.to_owned(), source })
        }
    }
}

/// Keeps it, whole or not at all. Secrets are in it: only root reads it.
pub(super) fn save(path: &Path, picture: &Picture) -> Result<(), PictureError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let json = serde_json::to_vec(picture).map_err(|source| PictureError::Json { path: path.to_owned(), source })?;
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut writer = options.open(&new).map_err(file("make", &new))?;
    writer.write_all(&json).map_err(file("write", &new))?;
    std::fs::rename(&new, path).map_err(file("replace", path))
}
