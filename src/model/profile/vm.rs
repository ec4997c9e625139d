//! The VM of a target: a name, or the description of a QEMU VM that vmserial starts.

use super::MemorySize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// Name, UUID or path of a VM, or the description of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmProfile {
    /// A VM that is there.
    Name(String),
    /// A QEMU VM.
    Described(Box<VmDescription>),
}

/// A QEMU VM that vmserial starts and stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmDescription {
    /// Its name.
    pub name: String,
    /// Start it when a session needs it.
    #[serde(default)]
    pub start: bool,
    /// Leave it running at the session's end.
    #[serde(default)]
    pub keep: bool,
    /// Kernel image.
    #[serde(default)]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    #[serde(default)]
    pub append: Option<String>,
    /// Memory; 256MiB if absent.
    #[serde(default)]
    pub memory: Option<MemorySize>,
    /// Disk images.
    #[serde(default)]
    pub disks: Vec<PathBuf>,
    /// QEMU's program; `qemu-system-x86_64` if absent.
    #[serde(default)]
    pub program: Option<String>,
    /// Further arguments for QEMU, one a word.
    #[serde(default)]
    pub arguments: Vec<String>,
}

impl Serialize for VmProfile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Described(description) => description.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for VmProfile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = VmProfile;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a VM's name, UUID or path, or the description of a QEMU VM")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(VmProfile::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                VmDescription::deserialize(MapAccessDeserializer::new(map))
                    .map(|description| VmProfile::Described(Box::new(description)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for VmProfile {
    fn schema_name() -> Cow<'static, str> {
        "VmProfile".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let description = generator.subschema_for::<VmDescription>();
        json_schema!({
            "description": "Name, UUID or path of a VM, or the description of a QEMU VM that vmserial starts",
            "anyOf": [ { "type": "string" }, description ]
        })
    }
}
