use super::*;

#[test]
fn a_reference_with_a_digest_loses_its_tag_and_a_port_is_no_tag() {
    for (reference, engine) in [
        ("nginx", "nginx"),
        ("nginx:1", "nginx:1"),
        ("nginx:1@sha256:ab", "nginx@sha256:ab"),
        ("r.example:5000/a/b:1@sha256:ab", "r.example:5000/a/b@sha256:ab"),
        ("r.example:5000/a/b@sha256:ab", "r.example:5000/a/b@sha256:ab"),
    ] {
        assert_eq!(by_digest(reference), engine);
    }
    assert!(has_tag("nginx:1") && has_tag("r:5000/a:1") && !has_tag("r:5000/a") && !has_tag("nginx"));
}

#[test]
fn owners_of_files_are_numbers() {
    assert_eq!(numbers("", "7").unwrap(), (0, 7));
    assert!(numbers("app", "0").unwrap_err().to_string().contains("\"app\" is no number"));
}
