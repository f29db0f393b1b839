//! `ova.xml`: the guest as xapi's data model has it, in the form of XML-RPC values.
//!
//! An import wants every field that the model had from the start; newer ones have defaults. Disk and
//! network interface are made anew from what is said here, and get new identities.

use std::fmt::{self, Display, Formatter};

use crate::image::Content;
use crate::image::disk::Disk;

/// The disk's name in the archive, and its blocks' folder.
pub(super) const DISK: &str = "Ref:2";
const VM: &str = "Ref:1";
const BLOCK_DEVICE: &str = "Ref:3";
const STORAGE: &str = "Ref:4";
const INTERFACE: &str = "Ref:5";
const NETWORK: &str = "Ref:6";
const NONE: &str = "OpaqueRef:NULL";

/// The file's text.
pub(super) fn text(content: &Content, disk: &Disk) -> String {
    let objects = [
        object("VM", VM, vm(content, disk)),
        object("VDI", DISK, vdi(content, disk)),
        object("VBD", BLOCK_DEVICE, vbd(disk)),
        object("SR", STORAGE, storage(disk)),
        object("VIF", INTERFACE, vif(disk)),
        object("network", NETWORK, network(disk)),
    ];
    let version = Value::Struct(vec![
        ("hostname", text_of("localhost")),
        ("date", text_of("1970-01-01")),
        ("product_version", text_of("8.2.1")),
        ("product_brand", text_of("XCP-ng")),
        ("build_number", text_of("rekernel")),
        ("xapi_major", number(1)),
        ("xapi_minor", number(20)),
        ("export_vsn", number(2)),
    ]);
    let all = Value::Struct(vec![
        ("version", version),
        ("objects", Value::Array(objects.into())),
    ]);
    format!("<?xml version=\"1.0\"?>\n{all}\n")
}

fn object(class: &str, reference: &str, fields: Vec<Field>) -> Value {
    Value::Struct(vec![
        ("class", text_of(class)),
        ("id", text_of(reference)),
        ("snapshot", Value::Struct(fields)),
    ])
}

fn vm(content: &Content, disk: &Disk) -> Vec<Field> {
    let memory = || number(u64::from(content.memory_mib) << 20);
    let platform = [
        ("acpi", text_of("1")),
        ("apic", text_of("true")),
        ("nx", text_of("true")),
        ("pae", text_of("true")),
        ("viridian", text_of("false")),
    ];
    let boot = [("order", text_of("c")), ("firmware", text_of("bios"))];
    let mut fields = vec![
        ("uuid", identity(disk, VM)),
        ("power_state", text_of("Halted")),
        ("name_label", text_of(&content.name)),
        ("name_description", text_of("Made by cargo rekernel image")),
        ("user_version", number(1)),
        ("is_a_template", Value::Boolean(false)),
        ("is_control_domain", Value::Boolean(false)),
        ("suspend_VDI", text_of(NONE)),
        ("resident_on", text_of(NONE)),
        ("affinity", text_of(NONE)),
        ("memory_overhead", number(0)),
        ("memory_target", number(0)),
        ("memory_static_max", memory()),
        ("memory_dynamic_max", memory()),
        ("memory_dynamic_min", memory()),
        ("memory_static_min", memory()),
        ("VCPUs_params", Value::Struct(Vec::new())),
        ("VCPUs_max", number(1)),
        ("VCPUs_at_startup", number(1)),
        ("actions_after_shutdown", text_of("destroy")),
        ("actions_after_reboot", text_of("restart")),
        ("actions_after_crash", text_of("restart")),
        ("consoles", none()),
        ("VIFs", list(&[INTERFACE])),
        ("VBDs", list(&[BLOCK_DEVICE])),
        ("crash_dumps", none()),
        ("VTPMs", none()),
        ("HVM_boot_policy", text_of("BIOS order")),
        ("HVM_boot_params", Value::Struct(boot.into())),
        ("HVM_shadow_multiplier", Value::Double(1)),
        ("domain_type", text_of("hvm")),
        ("platform", Value::Struct(platform.into())),
        ("PCI_bus", text_of("")),
        ("other_config", Value::Struct(Vec::new())),
        ("domid", text_of("-1")),
        ("domarch", text_of("")),
        ("last_boot_CPU_flags", Value::Struct(Vec::new())),
        ("metrics", text_of(NONE)),
        ("guest_metrics", text_of(NONE)),
        ("last_booted_record", text_of("")),
        ("recommendations", text_of("")),
        ("xenstore_data", Value::Struct(Vec::new())),
        ("ha_always_run", Value::Boolean(false)),
        ("ha_restart_priority", text_of("")),
        ("is_a_snapshot", Value::Boolean(false)),
        ("snapshot_of", text_of(NONE)),
        ("snapshots", none()),
        ("snapshot_time", Value::Beginning),
        ("transportable_snapshot_id", text_of("")),
        ("blobs", Value::Struct(Vec::new())),
        ("tags", none()),
        ("blocked_operations", Value::Struct(Vec::new())),
    ];
    for unused in [
        "PV_bootloader",
        "PV_kernel",
        "PV_ramdisk",
        "PV_args",
        "PV_bootloader_args",
        "PV_legacy_args",
    ] {
        fields.push((unused, text_of("")));
    }
    fields.extend(operations());
    fields
}

fn vdi(content: &Content, disk: &Disk) -> Vec<Field> {
    let mut fields = vec![
        ("uuid", identity(disk, DISK)),
        ("name_label", text_of(&content.name)),
        ("name_description", text_of("Boot loader and guest")),
        ("SR", text_of(STORAGE)),
        ("VBDs", list(&[BLOCK_DEVICE])),
        ("crash_dumps", none()),
        ("virtual_size", number(disk.size())),
        ("physical_utilisation", number(disk.size())),
        ("type", text_of("user")),
        ("sharable", Value::Boolean(false)),
        ("read_only", Value::Boolean(false)),
        ("other_config", Value::Struct(Vec::new())),
        ("storage_lock", Value::Boolean(false)),
        ("location", text_of("")),
        ("managed", Value::Boolean(true)),
        ("missing", Value::Boolean(false)),
        ("parent", text_of(NONE)),
        ("xenstore_data", Value::Struct(Vec::new())),
        ("sm_config", Value::Struct(Vec::new())),
        ("is_a_snapshot", Value::Boolean(false)),
        ("snapshot_of", text_of(NONE)),
        ("snapshots", none()),
        ("snapshot_time", Value::Beginning),
        ("tags", none()),
        ("allow_caching", Value::Boolean(false)),
        ("on_boot", text_of("persist")),
    ];
    fields.extend(operations());
    fields
}

fn vbd(disk: &Disk) -> Vec<Field> {
    let mut fields = vec![
        ("uuid", identity(disk, BLOCK_DEVICE)),
        ("VM", text_of(VM)),
        ("VDI", text_of(DISK)),
        ("device", text_of("xvda")),
        ("userdevice", text_of("0")),
        ("bootable", Value::Boolean(true)),
        ("mode", text_of("RW")),
        ("type", text_of("Disk")),
        ("unpluggable", Value::Boolean(false)),
        ("storage_lock", Value::Boolean(false)),
        ("empty", Value::Boolean(false)),
    ];
    fields.extend(device());
    fields
}

fn vif(disk: &Disk) -> Vec<Field> {
    let mut fields = vec![
        ("uuid", identity(disk, INTERFACE)),
        ("device", text_of("0")),
        ("network", text_of(NETWORK)),
        ("VM", text_of(VM)),
        // The host chooses another one.
        ("MAC", text_of("02:00:00:00:00:01")),
        ("MAC_autogenerated", Value::Boolean(true)),
        ("MTU", number(1500)),
        ("locking_mode", text_of("network_default")),
        ("ipv4_allowed", none()),
        ("ipv6_allowed", none()),
    ];
    fields.extend(device());
    fields
}

/// Stands for the storage that the import is told to use.
fn storage(disk: &Disk) -> Vec<Field> {
    let mut fields = vec![
        ("uuid", identity(disk, STORAGE)),
        ("name_label", text_of("Local storage")),
        ("name_description", text_of("")),
        ("VDIs", list(&[DISK])),
        ("PBDs", none()),
        ("virtual_allocation", number(0)),
        ("physical_utilisation", number(0)),
        ("physical_size", number(0)),
        ("type", text_of("ext")),
        ("content_type", text_of("user")),
        ("shared", Value::Boolean(false)),
        ("other_config", Value::Struct(Vec::new())),
        ("tags", none()),
        ("sm_config", Value::Struct(Vec::new())),
        ("blobs", Value::Struct(Vec::new())),
    ];
    fields.extend(operations());
    fields
}

/// The network as a fresh installation calls it: an import looks for this name.
fn network(disk: &Disk) -> Vec<Field> {
    let mut fields = vec![
        ("uuid", identity(disk, NETWORK)),
        (
            "name_label",
            text_of("Pool-wide network associated with eth0"),
        ),
        ("name_description", text_of("")),
        ("VIFs", list(&[INTERFACE])),
        ("PIFs", none()),
        ("MTU", number(1500)),
        ("bridge", text_of("xenbr0")),
        ("other_config", Value::Struct(Vec::new())),
        ("blobs", Value::Struct(Vec::new())),
        ("tags", none()),
    ];
    fields.extend(operations());
    fields
}

/// What block devices and interfaces have in common.
fn device() -> Vec<Field> {
    let mut fields = vec![
        ("other_config", Value::Struct(Vec::new())),
        ("currently_attached", Value::Boolean(false)),
        ("status_code", number(0)),
        ("status_detail", text_of("")),
        ("runtime_properties", Value::Struct(Vec::new())),
        ("qos_algorithm_type", text_of("")),
        ("qos_algorithm_params", Value::Struct(Vec::new())),
        ("qos_supported_algorithms", none()),
        ("metrics", text_of(NONE)),
    ];
    fields.extend(operations());
    fields
}

fn operations() -> [Field; 2] {
    [
        ("allowed_operations", none()),
        ("current_operations", Value::Struct(Vec::new())),
    ]
}

/// A UUID (version 8: of our own making) that differs between objects and between disks.
fn identity(disk: &Disk, reference: &str) -> Value {
    let number = reference.bytes().last().unwrap_or_default();
    Value::Text(format!(
        "{:08x}-0000-8000-8000-0000000000{number:02x}",
        disk.identity()
    ))
}

type Field = (&'static str, Value);

enum Value {
    Text(String),
    Boolean(bool),
    Double(u32),
    /// 1 January 1970.
    Beginning,
    Array(Vec<Value>),
    Struct(Vec<Field>),
}

fn text_of(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// xapi's integers are texts: XML-RPC's have 32 bits.
fn number(number: u64) -> Value {
    Value::Text(number.to_string())
}

fn none() -> Value {
    Value::Array(Vec::new())
}

fn list(references: &[&str]) -> Value {
    Value::Array(references.iter().map(|it| text_of(it)).collect())
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "<value>")?;
        match self {
            Self::Text(text) => write!(f, "{}", crate::image::xml::escaped(text))?,
            Self::Boolean(value) => write!(f, "<boolean>{}</boolean>", u8::from(*value))?,
            Self::Double(value) => write!(f, "<double>{value}</double>")?,
            Self::Beginning => {
                write!(f, "<dateTime.iso8601>19700101T00:00:00Z</dateTime.iso8601>")?
            }
            Self::Array(values) => {
                write!(f, "<array><data>")?;
                values.iter().try_for_each(|value| write!(f, "{value}"))?;
                write!(f, "</data></array>")?;
            }
            Self::Struct(fields) => {
                write!(f, "<struct>")?;
                for (name, value) in fields {
                    write!(f, "<member><name>{name}</name>{value}</member>")?;
                }
                write!(f, "</struct>")?;
            }
        }
        write!(f, "</value>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_xml_rpc_has_them() {
        let value = Value::Struct(vec![
            ("text", text_of("<a & b>")),
            (
                "list",
                Value::Array(vec![Value::Boolean(true), number(1 << 40)]),
            ),
        ]);
        assert_eq!(
            value.to_string(),
            "<value><struct><member><name>text</name><value>&lt;a &amp; b&gt;</value></member>\
             <member><name>list</name><value><array><data><value><boolean>1</boolean></value>\
             <value>1099511627776</value></data></array></value></member></struct></value>"
        );
    }
}
