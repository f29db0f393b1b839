//! Network devices that another guest serves: a driver domain, as Qubes has.

use anyhow::{Result, anyhow, ensure};
use lab::{GuestFile, network};

use super::devices::functions;
use crate::http::hash_of_bytes;
use crate::xen::{BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT, address, attach_arguments};

pub(super) const TESTS: &[Test] = &[(
    "a vif is served by a driver domain, which dies and is replaced",
    served_by_a_driver_domain,
)];

/// The last number of the guest's address.
const LAST: u8 = 88;

const KERNEL: &str = "/guests/driver-domain-kernel";
const ROOT: &str = "/guests/driver-domain-root";

/// Bytes of a download, whose hash is compared.
const BYTES: u32 = 20_000_000;

/// The driver domain's death is unannounced and takes its half of xenstore along. Then the host's operator
/// does what is left to do: the device is attached anew, served by another driver domain.
fn served_by_a_driver_domain(context: &Context) -> Result<()> {
    put_files(context)?;
    let first = driver_domain(context, "life-driver")?;
    let wish = Wish {
        interfaces: vec![interface(&first)],
        ..Wish::new("http", "life-served", LAST)
    };
    let guest = Guest::serving(context, &wish)?;
    download(context, &guest)?;
    let second = driver_domain(context, "life-driver-2")?;
    // One script, as one connection is kept all the time; the server keeps it for a minute. As in the tests of
    // suspension, QEMU's network must not see what dom0 sends to a guest that is away.
    let script = functions(&guest, &address(LAST))
        + &format!(
            "bridge link set dev eth0 flood off; trap 'bridge link set dev eth0 flood on' EXIT
             served_by() {{
               backend=$(xenstore-read /local/domain/$id/device/vif/0/backend-id)
               [ $backend = $(xl domid $1) ] || fail \"domain $backend serves, not $1\"
             }}
             served_by {first}
             dial; ask || fail 'no answer over a new connection'
             xl destroy {first}
             curl -s -o /dev/null --max-time 2 http://$peer/ && fail 'it is still served'
             xl network-detach $name 0
             xl network-attach $name {interface} || fail 'attach'
             serves 60 || fail 'no answer after the attach'
             ask || fail 'the connection is lost'
             served_by {second}",
            first = first.name,
            second = second.name,
            interface = attach_arguments(&interface(&second)),
        );
    guest.explain(second.explain(context.sh(&script, 4 * XL_LIMIT)))?;
    ensure!(
        guest.console().contains("link down"),
        "the guest did not say that its driver domain was gone"
    );
    download(context, &guest)
}

/// A guest's interface that this driver domain serves, as xl writes it.
fn interface(driver_domain: &Guest) -> String {
    // The bridge's name is the driver domain's own business; it is the same as dom0's.
    format!("bridge={},backend={}", network::BRIDGE, driver_domain.name)
}

/// Downloads from the guest; what comes must be what it serves.
fn download(context: &Context, guest: &Guest) -> Result<()> {
    let peer = address(LAST);
    let script = format!(
        "set -o pipefail; curl -fsS --max-time 100 http://{peer}/bytes/{BYTES} | sha256sum"
    );
    let printed = guest.explain(context.sh(&script, XL_LIMIT))?;
    let expected = hash_of_bytes(BYTES.into());
    guest.explain(match printed.starts_with(&expected) {
        true => Ok(()),
        false => Err(anyhow!(
            "{BYTES} bytes with hash {expected} became: {printed}"
        )),
    })
}

/// A driver domain that is ready to serve.
fn driver_domain<'a>(context: &'a Context, name: &str) -> Result<Guest<'a>> {
    let file = configuration(context, name)?;
    let guest = Guest::adopt(context, name);
    context.sh(&format!("xl create -q {file}"), XL_LIMIT)?;
    guest.explain(guest.wait_for("driver domain: ready", BOOT_LIMIT))?;
    Ok(guest)
}

/// Puts dom0's own kernel and files into dom0, with another start script.
fn put_files(context: &Context) -> Result<()> {
    let script = include_bytes!("driver-domain.sh").to_vec();
    let files = [
        GuestFile {
            path: "lab/driver-domain".into(),
            executable: true,
            content: script,
        },
        GuestFile {
            path: "etc/inittab".into(),
            executable: false,
            content: b"::once:/lab/driver-domain\n".into(),
        },
    ];
    context.dom0.copy_in(&context.lab.kernel(), KERNEL)?;
    context.dom0.write(ROOT, &context.lab.root(&files)?)?;
    Ok(())
}

/// Writes a driver domain's configuration; returns its path.
fn configuration(context: &Context, name: &str) -> Result<String> {
    // As a PV guest Linux starts sooner, and needs no emulated clock.
    let text = format!(
        "type = \"pv\"\nname = \"{name}\"\nkernel = \"{KERNEL}\"\nramdisk = \"{ROOT}\"\n\
         extra = \"console=hvc0 quiet\"\nmemory = 256\nvcpus = 1\ndriver_domain = 1\n\
         vif = [ \"bridge={}\" ]\non_crash = \"preserve\"\n",
        network::BRIDGE
    );
    let file = format!("/guests/{name}.cfg");
    context.dom0.write(&file, text.as_bytes())?;
    Ok(file)
}
