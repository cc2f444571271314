use proptest::prelude::*;

use crate::cluster::ca::{InvalidToken, JoinToken, RootDigest, UnlockError, UnlockKey, root_digest};

/// A root and a token of a swarm of Docker 20.10, as `docker swarm init` printed it.
const DOCKER_ROOT: &str = "-----BEGIN CERTIFICATE-----
MIIBajCCARCgAwIBAgIUaFvYvyvIxJnDGIRrcoabXhfRPY0wCgYIKoZIzj0EAwIw
EzERMA8GA1UEAxMIc3dhcm0tY2EwHhcNMjYxMTI0MDM1MTAwWhcNNDYxMTE5MDM1
MTAwWjATMREwDwYDVQQDEwhzd2FybS1jYTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABMMW8LeHwbs7J8LXrYIygC7edhda9iVrYQFlzPockvcUBlxbyLF3prPBeXYc
c+OKPZ6hxH1CuuWAQx9hrsT7AK2jQjBAMA4GA1UdDwEB/wQEAwIBBjAPBgNVHRMB
Af8EBTADAQH/MB0GA1UdDgQWBBQP7TYDv2n7S3K/9vNsj1hTruINqzAKBggqhkjO
PQQDAgNIADBFAiBa04k5WU0VJR3jBkt+vKIkOBoVRKdyltm83t31sJayUgIhAKQ3
NvRolXGgnl3UaZJNEVP/qPAwyuru8orxqZeNSQEQ
-----END CERTIFICATE-----
";
const DOCKER_TOKEN: &str = "SWMTKN-1-4kgg2bubju8beake8pfzpyolxd9gqh1v77q2t29j25wirhh7xv-bqovlzz61life7kwouxd0an5i";

#[test]
fn a_token_of_docker_names_the_root_as_docker_does() {
    let token: JoinToken = DOCKER_TOKEN.parse().unwrap();
    assert_eq!(token.digest(), root_digest(DOCKER_ROOT));
    assert_eq!(token.to_string(), DOCKER_TOKEN);
}

proptest! {
    #[test]
    fn a_token_comes_back_as_it_went(digest: [u8; 32], secret: [u8; 16]) {
        let token = JoinToken::from_parts(RootDigest(digest), secret);
        let text = token.to_string();
        let parts: Vec<_> = text.split('-').collect();
        prop_assert_eq!((parts[0], parts[1], parts[2].len(), parts[3].len()), ("SWMTKN", "1", 50, 25));
        prop_assert!(text[7..].bytes().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase() || c == b'-'));
        let back: JoinToken = text.parse().unwrap();
        prop_assert!(back.is(&token));
        prop_assert_eq!(back.to_string(), text);
    }

    #[test]
    fn a_token_with_one_other_character_is_no_token_or_another_one(
        at in 0..DOCKER_TOKEN.len(), with in "[ -~]",
    ) {
        let mut text = DOCKER_TOKEN.to_owned();
        text.replace_range(at..=at, &with);
        prop_assume!(text != DOCKER_TOKEN);
        let own: JoinToken = DOCKER_TOKEN.parse().unwrap();
        prop_assert!(!text.parse::<JoinToken>().is_ok_and(|token| token.is(&own)));
    }

    #[test]
    fn any_text_is_a_token_or_is_refused_and_never_more(text in ".*") {
        let _ = text.parse::<JoinToken>();
        let _ = text.parse::<UnlockKey>();
    }
}

#[test]
fn what_is_not_of_the_form_is_refused_in_dockers_words() {
    let whole = DOCKER_TOKEN;
    let too_much = format!("SWMTKN-1-{}-{}", "z".repeat(50), "0".repeat(25));
    let secret_too_much = format!("{}{}", &whole[..60], "z".repeat(25));
    let upper = whole.replace("4kgg", "4KGG");
    let rows = [
        "",
        "SWMTKN",
        "SWMTKN-1-",
        &whole[..whole.len() - 1],
        &whole[1..],
        &format!("{whole}-"),
        &format!("{whole} "),
        &whole.replace("SWMTKN-1", "SWMTKN-2"),
        &whole.replace("SWMTKN-1", "SWMTKN-2-1"),
        &upper,
        &too_much,
        &secret_too_much,
    ];
    for text in rows {
        assert_eq!(text.parse::<JoinToken>().err(), Some(InvalidToken), "{text}");
    }
    assert_eq!(InvalidToken.to_string(), "invalid join token");
}

#[test]
fn neither_token_nor_unlock_key_shows_in_debug() {
    let token: JoinToken = DOCKER_TOKEN.parse().unwrap();
    assert!(!format!("{token:?}").contains("bqovlzz61life7kwouxd0an5i"));
    let key = UnlockKey::generate().unwrap();
    assert_eq!(format!("{key:?}"), "UnlockKey");
}

#[test]
fn an_unlock_key_comes_back_as_it_went_and_others_are_refused() {
    let key = UnlockKey::generate().unwrap();
    let text = key.to_string();
    assert_eq!((text.len(), &text[..9]), (9 + 43, "SWMKEY-1-"));
    assert_eq!(text.parse::<UnlockKey>(), Ok(key));
    for bad in ["", "SWMKEY-1-", &text[..text.len() - 1], &text[1..], &format!("{text}="), "SWMKEY-2-x"] {
        assert_eq!(bad.parse::<UnlockKey>(), Err(UnlockError::Form), "{bad}");
    }
}
