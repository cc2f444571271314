//! Who asks a registry, and what the docker client says of it.

use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

/// Who asks a registry.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user.
    Basic {
        /// Name.
        user: String,
        /// Password or token.
        password: String,
    },
    /// The bearer of a token that the registry itself gave.
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "anonymous",
            Self::Basic { .. } => "a user and a password",
            Self::Bearer(_) => "a token",
        })
    }
}

/// Why credentials are not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// They have another form.
    #[error("registry credentials are not the JSON that docker sends")]
    Form,
    /// They are of a kind that is not supported.
    #[error("identity tokens are not supported: log in with a password or an access token")]
    IdentityToken,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Docker {
    username: Option<String>,
    password: Option<String>,
    registrytoken: Option<String>,
    identitytoken: Option<String>,
}

impl Credentials {
    /// Reads what docker clients put into the header `X-Registry-Auth`, without its base64.
    ///
    /// # Errors
    /// It is something else.
    pub fn of_docker(json: &[u8]) -> Result<Self, CredentialsError> {
        let docker: Docker = serde_json::from_slice(json).map_err(|_| CredentialsError::Form)?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(match (given(docker.registrytoken), given(docker.username), given(docker.identitytoken)) {
            (Some(token), _, _) => Self::Bearer(token),
            (None, _, Some(_)) => return Err(CredentialsError::IdentityToken),
            (None, Some(user), None) => Self::Basic { user, password: docker.password.unwrap_or_default() },
            (None, None, None) => Self::Anonymous,
        })
    }

    pub(super) fn for_client(&self) -> RegistryAuth {
        match self {
            Self::Anonymous => RegistryAuth::Anonymous,
            Self::Basic { user, password } => RegistryAuth::Basic(user.clone(), password.clone()),
            Self::Bearer(token) => RegistryAuth::Bearer(token.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_whom_it_says() {
        let basic = Credentials::Basic { user: "u".to_owned(), password: "p".to_owned() };
        for (json, expected) in [
            ("{}", Ok(Credentials::Anonymous)),
            (r#"{"username":"u","password":"p","serveraddress":"x"}"#, Ok(basic)),
            (r#"{"registrytoken":"t","username":null}"#, Ok(Credentials::Bearer("t".to_owned()))),
            (r#"{"identitytoken":"t"}"#, Err(CredentialsError::IdentityToken)),
            ("7", Err(CredentialsError::Form)),
            ("", Err(CredentialsError::Form)),
        ] {
            assert_eq!(Credentials::of_docker(json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let basic = Credentials::Basic { user: "u".to_owned(), password: "hidden".to_owned() };
        assert!(!format!("{basic:?}").contains("hidden"));
    }
}
