//! Secrets and configs: bytes with a name.

use super::{Driver, Labels, Version, wire};

wire! {
    Secret {
        id "ID": String,
        version "Version": Version,
        created_at "CreatedAt": String,
        updated_at "UpdatedAt": String,
        spec "Spec": SecretSpec,
    }
    SecretSpec {
        name "Name": String,
        labels "Labels": Labels,
        data "Data"?: String,
        driver "Driver"?: Option<Driver>,
        templating "Templating"?: Option<Driver>,
    }
    Config {
        id "ID": String,
        version "Version": Version,
        created_at "CreatedAt": String,
        updated_at "UpdatedAt": String,
        spec "Spec": ConfigSpec,
    }
    ConfigSpec {
        name "Name": String,
        labels "Labels": Labels,
        data "Data"?: String,
        templating "Templating"?: Option<Driver>,
    }
}
