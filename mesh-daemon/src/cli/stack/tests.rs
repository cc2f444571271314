//! Compose files: what is wrong is said with its line, and what several files say becomes one.

use std::path::Path;

use super::compose::{self, Environment, Source};
use super::deploy::wanted;
use super::name::Name;
use crate::api::wire::ServiceSpec;

fn sources(texts: &[&str]) -> Vec<Source> {
    let named = |(index, text): (usize, &&str)| Source { name: format!("{index}.yml"), text: (*text).to_owned() };
    texts.iter().enumerate().map(named).collect()
}

fn services(texts: &[&str]) -> Result<Vec<ServiceSpec>, String> {
    let environment = Environment::from([("TAG".to_owned(), "2".to_owned()), ("N".to_owned(), "3".to_owned())]);
    let stack = compose::load(&sources(texts), Path::new("/here"), &environment).map_err(|wrong| wrong.to_string())?;
    let name = Name::new("s").map_err(|error| error.to_string())?;
    let wanted = wanted(&stack.tree, &name).map_err(|wrong| wrong.to_string())?;
    Ok(wanted.services)
}

#[test]
fn what_is_wrong_is_said_with_file_line_and_field() {
    for (text, said) in [
        ("services:\n  web:\n    build: .\n", "0.yml:2:3: invalid image reference for service web: no image specified"),
        (
            "services:\n  web:\n    imag: a\n",
            "0.yml:3:5: services.web Additional property imag is not allowed: is \"image\" meant?",
        ),
        ("services:\n  web:\n    image: a\n    init: maybe\n", "0.yml:4:5: services.web.init must be a boolean"),
        (
            "services:\n  web:\n    image: a\n    ports: 80\n    tty: 7\n",
            "0.yml:4:5: services.web.ports must be a list",
        ),
        (
            "services:\n  web:\n    image: a\n    ports:\n      - \"x:80\"\n",
            "0.yml:5:9: services.web.ports.0: invalid hostPort: x",
        ),
        (
            "services:\n  web:\n    image: a\n    networks: [none]\n",
            "0.yml:4:16: service web: undefined network \"none\"",
        ),
        (
            "services:\n  web:\n    image: a\n    volumes: [\"data:/d\"]\n",
            "0.yml:4:15: service web: undefined volume \"data\"",
        ),
        (
            "services:\n  web:\n    image: a\n    secrets:\n    - key\n",
            "0.yml:5:7: service web: undefined secret \"key\"",
        ),
        (
            "services:\n  web:\n    image: a\n    deploy:\n      mode: global\n      replicas: 2\n",
            "0.yml:6:7: services.web.deploy.replicas: replicas can only be used with replicated or replicated-job mode",
        ),
        (
            "services:\n  web:\n    image: a\n    deploy:\n      update_config: {delay: 10}\n",
            "0.yml:5:23: services.web.deploy.update_config.delay must be a duration as 1m30s",
        ),
        (
            "services:\n  web:\n    image: a\n    deploy: {resources: {limits: {memory: 1q}}}\n",
            "0.yml:4:35: services.web.deploy.resources.limits.memory: invalid size: '1q'",
        ),
        (
            "services:\n  web:\n    image: a\n    mem_limit: 1g\n",
            "0.yml:4:5: services.web.mem_limit is not supported: set resource limits using deploy.resources",
        ),
        ("version: \"2.4\"\nservices: {}\n", "0.yml:1:1: unsupported Compose file version: 2.4"),
        (
            "services:\n  web:\n    image: a:${NONE:?say which}\n",
            "0.yml:3:5: services.web.image: required variable NONE is missing a value: say which",
        ),
        (
            "services:\n  web:\n    image: a:$1\n",
            "0.yml:3:5: invalid interpolation format for services.web.image: \"a:$1\"; you may need to escape any $ with another $",
        ),
        (
            "services: {}\nsecrets:\n  key:\n    file: none\n",
            "0.yml:4:5: secrets.key.file: /here/none: No such file or directory (os error 2)",
        ),
        ("- a\n", "0.yml:1:1: top-level object must be a mapping"),
    ] {
        assert_eq!(services(&[text]).unwrap_err(), said);
    }
}

#[test]
fn text_that_is_no_yaml_is_said_with_its_line() {
    for text in ["services:\n  web: [\n", "services:\n  a: 1\n  a: 2\n", "services:\n\tweb: {}\n", "a: &a [*a]\n"] {
        let said = services(&[text]).unwrap_err();
        assert!(said.starts_with("0.yml"), "{said}");
    }
}

#[test]
fn variables_give_numbers_and_words() {
    let spec = &services(&["services:\n  web:\n    image: a:${TAG}\n    deploy: {replicas: $N}\n"]).unwrap()[0];
    assert_eq!(spec.task_template.container_spec.as_ref().unwrap().image, "a:2");
    assert_eq!(spec.mode.replicated.as_ref().unwrap().replicas, Some(3));
}

#[test]
fn a_later_file_is_put_over_an_earlier_one() {
    let base = "services:\n  web:\n    image: a\n    command: one two\n    environment: {A: 1, B: 2}\n    ports: ['80:80']\n    cap_add: [NET_ADMIN]\n";
    let later = "services:\n  web:\n    command: three\n    environment: [B=3]\n    ports: ['81:81', '80:80']\n    cap_add: [SYS_TIME]\n  db:\n    image: b\n";
    let both = services(&[base, later]).unwrap();
    let names: Vec<_> = both.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["s_db", "s_web"]);
    let container = both[1].task_template.container_spec.as_ref().unwrap();
    assert_eq!((container.image.as_str(), &container.args), ("a", &vec!["three".to_owned()]));
    assert_eq!(container.env, ["A=1", "B=3"]);
    assert_eq!(container.capability_add, ["CAP_NET_ADMIN", "CAP_SYS_TIME"]);
    let ports: Vec<_> = both[1].endpoint_spec.iter().flat_map(|endpoint| &endpoint.ports).collect();
    assert_eq!(ports.iter().map(|port| port.published_port).collect::<Vec<_>>(), [80, 81]);
}

#[test]
fn what_is_left_out_is_told() {
    let text = "services:\n  web:\n    image: a:$NONE\n    build: .\n    privileged: true\n    container_name: x\n";
    let stack = compose::load(&sources(&[text]), Path::new("/here"), &Environment::new()).unwrap();
    assert_eq!(
        stack.warnings,
        [
            "The \"NONE\" variable is not set. Defaulting to a blank string.",
            "Ignoring unsupported options: build, privileged\n",
            "Ignoring deprecated options:\n\ncontainer_name: Setting the container name is not supported.\n",
        ]
    );
}
