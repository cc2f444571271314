//! The one list of kinds of objects, and what a table must know of each.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::table::Table;
use super::tables::Tables;
use crate::model::cluster::Cluster;
use crate::model::id::{ClusterId, ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId};
use crate::model::meta::Meta;
use crate::model::network::Network;
use crate::model::node::Node;
use crate::model::payload::{Config, Secret};
use crate::model::service::{Service, ServiceSpec};
use crate::model::task::{Task, TaskSpec};

/// Calls a macro with every kind: variant, type of the object, type of its id, word, name of the table.
macro_rules! for_each_kind {
    ($call:ident) => {
        $call! {
            Cluster, Cluster, ClusterId, "cluster", clusters;
            Node, Node, NodeId, "node", nodes;
            Network, Network, NetworkId, "network", networks;
            Secret, Secret, SecretId, "secret", secrets;
            Config, Config, ConfigId, "config", configs;
            Service, Service, ServiceId, "service", services;
            Task, Task, TaskId, "task", tasks;
        }
    };
}
pub(super) use for_each_kind;

/// What other objects an object belongs to or uses: tables find it by these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A task of this service.
    Service(ServiceId),
    /// A task on this node.
    Node(NodeId),
    /// A service or task in this network.
    Network(NetworkId),
    /// A service or task with this secret.
    Secret(SecretId),
    /// A service or task with this config.
    Config(ConfigId),
}

/// What a table must know of its objects.
pub trait Object: Clone + PartialEq + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The type of its id.
    type Id: Copy + Ord + fmt::Display + fmt::Debug + std::hash::Hash + Send + Sync + 'static;

    /// What it is.
    const KIND: Kind;

    /// Whether no two objects may have the same name.
    const UNIQUE_NAMES: bool;

    /// Its id.
    fn id(&self) -> Self::Id;

    /// The id of this number.
    fn id_from(bits: u128) -> Self::Id;

    /// The number behind an id.
    fn id_bits(id: Self::Id) -> u128;

    /// Its version and times.
    fn meta(&self) -> &Meta;

    /// To write them.
    fn meta_mut(&mut self) -> &mut Meta;

    /// What people call it; empty if nothing.
    fn name(&self) -> &str;

    /// What it belongs to and uses.
    fn keys(&self) -> Vec<Key>;

    /// Its table.
    fn table(tables: &Tables) -> &Table<Self>;

    /// Its table, to write.
    fn table_mut(tables: &mut Tables) -> &mut Table<Self>;

    /// This object as one of any kind.
    fn wrap(object: Arc<Self>) -> AnyObject;
}

macro_rules! kinds {
    ($($variant:ident, $object:ident, $id:ident, $word:literal, $table:ident;)*) => {
        /// What an object is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Kind { $(#[doc = concat!("A ", $word, ".")] $variant,)* }

        impl Kind {
            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        /// An object of any kind.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum AnyObject {
            $(#[doc = concat!("A ", $word, ".")] $variant(#[serde(with = "shared")] Arc<$object>),)*
        }

        impl AnyObject {
            /// What it is.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant,)* }
            }

            /// The number behind its id.
            #[must_use]
            pub fn id_bits(&self) -> u128 {
                match self { $(Self::$variant(object) => object.id.to_u128(),)* }
            }

            /// Its version and times.
            #[must_use]
            pub fn meta(&self) -> &Meta {
                match self { $(Self::$variant(object) => &object.meta,)* }
            }

            /// The same object with another version and other times.
            pub(super) fn with_meta(&self, meta: Meta) -> Self {
                match self { $(
                    Self::$variant(object) => Self::$variant(Arc::new($object { meta, ..(**object).clone() })),
                )* }
            }
        }
    };
}
for_each_kind!(kinds);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How shared objects are written: as what they share.
mod shared {
    use super::{Arc, Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(object: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(object, serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

macro_rules! objects {
    ($($object:ident, $id:ident, $table:ident, unique: $unique:literal, name: $name:expr, keys: $keys:expr;)*) => { $(
        impl Object for $object {
            type Id = $id;
            const KIND: Kind = Kind::$object;
            const UNIQUE_NAMES: bool = $unique;

            fn id(&self) -> $id {
                self.id
            }

            fn id_from(bits: u128) -> $id {
                $id::from_u128(bits)
            }

            fn id_bits(id: $id) -> u128 {
                id.to_u128()
            }

            fn meta(&self) -> &Meta {
                &self.meta
            }

            fn meta_mut(&mut self) -> &mut Meta {
                &mut self.meta
            }

            fn name(&self) -> &str {
                let name: fn(&Self) -> &str = $name;
                name(self)
            }

            fn keys(&self) -> Vec<Key> {
                let keys: fn(&Self) -> Vec<Key> = $keys;
                keys(self)
            }

            fn table(tables: &Tables) -> &Table<Self> {
                &tables.$table
            }

            fn table_mut(tables: &mut Tables) -> &mut Table<Self> {
                &mut tables.$table
            }

            fn wrap(object: Arc<Self>) -> AnyObject {
                AnyObject::$object(object)
            }
        }
    )* };
}

objects! {
    Cluster, ClusterId, clusters, unique: true, name: |it| &it.spec.annotations.name, keys: |_| Vec::new();
    // Two machines may have one host name, as in Swarm.
    Node, NodeId, nodes, unique: false, name: |it| it.name(), keys: |_| Vec::new();
    Network, NetworkId, networks, unique: true, name: |it| &it.spec.annotations.name, keys: |_| Vec::new();
    Secret, SecretId, secrets, unique: true, name: |it| &it.spec.annotations.name, keys: |_| Vec::new();
    Config, ConfigId, configs, unique: true, name: |it| &it.spec.annotations.name, keys: |_| Vec::new();
    Service, ServiceId, services, unique: true, name: |it| &it.spec.annotations.name, keys: |it| used_by_service(&it.spec);
    Task, TaskId, tasks, unique: false, name: |it| &it.annotations.name, keys: used_by_task;
}

fn used_by_service(spec: &ServiceSpec) -> Vec<Key> {
    let mut keys = used_by_spec(&spec.task);
    keys.extend(spec.networks.iter().map(|network| Key::Network(network.network_id)));
    keys
}

fn used_by_task(task: &Task) -> Vec<Key> {
    let mut keys = used_by_spec(&task.spec);
    keys.extend(task.networks.iter().map(|network| Key::Network(network.network_id)));
    keys.extend(task.service_id.map(Key::Service));
    keys.extend(task.node_id.map(Key::Node));
    keys
}

fn used_by_spec(spec: &TaskSpec) -> Vec<Key> {
    let networks = spec.networks.iter().map(|network| Key::Network(network.network_id));
    let secrets = spec.container.secrets.iter().map(|secret| Key::Secret(secret.secret_id));
    let configs = spec.container.configs.iter().map(|config| Key::Config(config.config_id));
    networks.chain(secrets).chain(configs).collect()
}
