//! Published ports in their short form: `[PUBLISHED[-END]:]TARGET[-END][/PROTOCOL]`.

use super::tree::{Map, Node, Value, Wrong};

/// A range that is longer than this is a mistake.
const MAX_RANGE: usize = 1 << 12;

/// Puts long forms in the place of short ones: a range becomes several.
pub(super) fn lengthen(ports: &mut Node, path: &str) -> Result<(), Wrong> {
    let Value::List(items) = &mut ports.value else { return Ok(()) };
    let mut long = Vec::with_capacity(items.len());
    for (index, item) in items.drain(..).enumerate() {
        let Some(text) = item.plain() else {
            long.push(item);
            continue;
        };
        let ports = short(&text).map_err(|why| Wrong::at(&item.at, format!("{path}.{index}: {why}")))?;
        for (published, target, protocol) in ports {
            let mut map = Map::from([
                ("mode".to_owned(), item.text_beside("ingress")),
                ("protocol".to_owned(), item.text_beside(protocol)),
                ("target".to_owned(), item.beside(Value::Integer(target.into()))),
            ]);
            if published != 0 {
                map.insert("published".to_owned(), item.beside(Value::Integer(published.into())));
            }
            long.push(item.beside(Value::Map(map)));
        }
    }
    *items = long;
    Ok(())
}

/// Published port (0: any), target port, protocol.
fn short(text: &str) -> Result<Vec<(u16, u16, String)>, String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("invalid proto: {protocol}"));
    }
    let (before, target) = ports.rsplit_once(':').map_or((None, ports), |(before, target)| (Some(before), target));
    if target.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let targets = range(target).map_err(|()| format!("invalid containerPort: {target}"))?;
    let published = match before {
        None => None,
        Some(before) => {
            let port = before.rsplit_once(':').map_or(before, |(_, port)| port);
            let address = before.strip_suffix(port).unwrap_or_default();
            if !["", "0.0.0.0:", "[::]:", "::"].contains(&address) {
                return Err(format!(
                    "\"{text}\" has an address: a service has its ports on every node (a label of the service can bind them)"
                ));
            }
            if port.is_empty() { None } else { Some(range(port).map_err(|()| format!("invalid hostPort: {port}"))?) }
        }
    };
    let port = |published, target| (published, target, protocol.clone());
    match published {
        None => Ok(targets.into_iter().map(|target| port(0, target)).collect()),
        Some(published) if published.len() == targets.len() => {
            Ok(published.into_iter().zip(targets).map(|(published, target)| port(published, target)).collect())
        }
        Some(published) => match targets.as_slice() {
            [target] => Ok(published.into_iter().map(|published| port(published, *target)).collect()),
            _ => Err(format!("invalid ranges specified for container and host Ports: {target} and {ports}")),
        },
    }
}

fn range(text: &str) -> Result<Vec<u16>, ()> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().map_err(drop)?, last.parse().map_err(drop)?);
    let range: Vec<_> = (first..=last).collect();
    if range.is_empty() || range.len() > MAX_RANGE || first == 0 { Err(()) } else { Ok(range) }
}

#[test]
fn short_ports_are_read_as_the_docker_cli_reads_them() {
    let ports = |text: &str| -> Result<Vec<String>, String> {
        Ok(short(text)?
            .into_iter()
            .map(|(published, target, protocol)| format!("{published}:{target}/{protocol}"))
            .collect())
    };
    for (text, expected) in [
        ("80", vec!["0:80/tcp"]),
        ("8080:80", vec!["8080:80/tcp"]),
        ("53:53/udp", vec!["53:53/udp"]),
        ("0.0.0.0:8080:80", vec!["8080:80/tcp"]),
        ("8000-8001:80-81", vec!["8000:80/tcp", "8001:81/tcp"]),
        ("8000-8001:80", vec!["8000:80/tcp", "8001:80/tcp"]),
    ] {
        assert_eq!(ports(text).unwrap(), expected, "{text}");
    }
    for text in ["", "x", "80:", "99999:80", "0:80", "8000-8002:80-81", "80/foo", "127.0.0.1:80:80", "9-8:9-8"] {
        assert!(ports(text).is_err(), "{text}");
    }
}
