//! API versions: what is served, and the prefix of a path that names one.

use std::fmt;

use super::error::Error;

/// A version of the Engine API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u16,
    minor: u16,
}

/// The newest that is served. Clients of docker 29.0 to 29.2 refuse less than 1.44; members that came
/// after 1.41 are optional, so one set of bodies serves all.
pub(super) const MAX: Version = Version { major: 1, minor: 47 };

/// The oldest that is served: Traefik to 3.6.0 asks for it without negotiating.
pub(super) const MIN: Version = Version { major: 1, minor: 24 };

/// Log streams carry their media type from here on.
pub(super) const MEDIA_TYPE_OF_STREAMS: Version = Version { major: 1, minor: 42 };

/// Networks say whether they have IPv4 from here on; clients of before take all of them to.
pub(super) const NETWORKS_SAY_IPV4: Version = Version { major: 1, minor: 47 };

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Cuts the version off a path; a path without one asks for the newest.
///
/// # Errors
/// The version is not served.
pub(super) fn cut(path: &str) -> Result<(Version, &str), Error> {
    let Some((version, rest)) = prefix(path) else {
        return Ok((MAX, path));
    };
    if version > MAX {
        return Err(Error::VersionTooNew { version, max: MAX });
    }
    if version < MIN {
        return Err(Error::VersionTooOld { version, min: MIN });
    }
    Ok((version, if rest.is_empty() { "/" } else { rest }))
}

fn prefix(path: &str) -> Option<(Version, &str)> {
    let path = path.strip_prefix("/v")?;
    let (version, rest) = match path.find('/') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let (major, minor) = version.split_once('.')?;
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    Some((Version { major: number(major)?, minor: number(minor)? }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Result<&str, &str>) {
        let cut = cut(path).map(|(_, rest)| rest.to_owned()).map_err(|error| error.to_string());
        assert_eq!(cut.as_deref().map_err(String::as_str), expected, "{path}");
    }

    #[test]
    fn a_path_loses_its_version_and_may_have_none() {
        check("/v1.41/services/web", Ok("/services/web"));
        check("/v1.24/info", Ok("/info"));
        check("/services/web", Ok("/services/web"));
        check("/volumes/v1.41", Ok("/volumes/v1.41"));
        check("/version", Ok("/version"));
        check("/v1.47", Ok("/"));
    }

    #[test]
    fn versions_outside_the_range_are_refused_as_docker_does() {
        check("/v1.99/info", Err("client version 1.99 is too new. Maximum supported API version is 1.47"));
        check(
            "/v1.12/info",
            Err(
                "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
            ),
        );
    }

    #[test]
    fn what_only_looks_like_a_version_is_a_path() {
        for path in ["/v1.x/info", "/v1/info", "/vx/info", "/v+1.41/info", "/v1.999999/info"] {
            check(path, Ok(path));
        }
    }
}
