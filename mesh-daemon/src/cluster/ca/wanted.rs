//! What a user asks of the root, held against what it is: another root, a given one, or the one in force.
//!
//! The rules and the words are Swarm's. Pure, as `trusted` is.

use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::root::{Root, RootError};
use super::trusted::{TrustError, begin_rotation};
use crate::model::cluster::{CaSpec, RootCa};

/// A given root must be good for so long at least.
const MIN_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why the root does not become what a user wants.
#[derive(Debug, Error)]
pub enum Unwanted {
    /// Half of a root.
    #[error("if a signing CA key is provided, the signing CA cert must also be provided")]
    NoCertificate,
    /// The other half: Swarm would ask an external CA.
    #[error("the signing CA cert needs its key: an external CA, which would sign in its place, is not supported")]
    NoKey,
    /// Signing outside of the cluster.
    #[error(
        "external CAs are not supported: give the root and its key (`swarm ca --rotate --ca-cert FILE --ca-key FILE`)"
    )]
    External,
    /// It ends within a year.
    #[error("CA certificate expires too soon")]
    Ends,
    /// It is no root.
    #[error("the signing CA cert and key cannot be used")]
    Root(#[source] RootError),
}

/// Has the trust of a cluster follow its settings. What they say of a root is done by this, so it is taken out of
/// them: a key must not lie where settings are shown.
///
/// # Errors
/// If it cannot be what they say; then nothing has changed.
pub fn follow(ca: &mut RootCa, spec: &mut CaSpec, now: SystemTime) -> Result<(), TrustError> {
    if !spec.external_cas.is_empty() {
        return Err(Unwanted::External.into());
    }
    match (spec.signing_ca_cert.is_empty(), spec.signing_ca_key.0.is_empty()) {
        (true, false) => return Err(Unwanted::NoCertificate.into()),
        (false, true) => return Err(Unwanted::NoKey.into()),
        (false, false) => take(ca, given(spec, now)?, now)?,
        (true, true) if spec.force_rotate != ca.last_forced_rotation => begin_rotation(ca, None, now)?,
        (true, true) => {}
    }
    ca.last_forced_rotation = spec.force_rotate;
    spec.signing_ca_cert.clear();
    spec.signing_ca_key.0.clear();
    Ok(())
}

fn given(spec: &CaSpec, now: SystemTime) -> Result<Root, Unwanted> {
    let key = std::str::from_utf8(&spec.signing_ca_key.0).map_err(|_| Unwanted::Root(RootError::Key))?;
    let root = Root::load(&spec.signing_ca_cert, key).map_err(Unwanted::Root)?;
    if root.not_after() < now + MIN_LIFE {
        return Err(Unwanted::Ends);
    }
    Ok(root)
}

/// The one in force takes back a rotation from it, the one that comes already goes on coming.
fn take(ca: &mut RootCa, root: Root, now: SystemTime) -> Result<(), TrustError> {
    if root.certificate() == ca.certificate {
        ca.rotation = None;
        return Ok(());
    }
    if ca.rotation.as_ref().is_some_and(|rotation| rotation.certificate == root.certificate()) {
        return Ok(());
    }
    begin_rotation(ca, Some(root), now)
}
