//! Network interfaces: from a device to the stack, with the addresses it shall have.

use alloc::boxed::Box;
use alloc::string::String;

use rekernel_core::config::Settings;
use rekernel_core::net::Stack;
use rekernel_core::net::device::NetworkDevice;

use crate::heap;

/// Lets the buffers of the running runtime's stack take half of the heap as it is now: what comes
/// from the network must not be able to exhaust the application's memory.
pub(crate) fn limit_buffers() {
    Stack::current().set_buffer_limit(heap::information().total / 2);
}

/// Takes the devices of a machine, at its start and later.
#[derive(Clone, Copy)]
pub(crate) struct Interfaces {
    settings: &'static Settings,
}

impl Interfaces {
    /// Prepares the stack of the running runtime.
    pub(crate) fn new(settings: &'static Settings) -> Self {
        limit_buffers();
        Stack::current().set_dns_servers(settings.dns.clone());
        Self { settings }
    }

    /// Hands a device to the stack of the running runtime, as the interface with this number,
    /// which no other has at the time. The command line calls it `net<number>`.
    pub(crate) fn add(self, number: usize, device: Box<dyn NetworkDevice>) {
        let name = String::from(device.name());
        let configure = move |assigned: Option<&str>| {
            let (config, complaints) = self.settings.address_config(number, assigned);
            for complaint in complaints {
                log::error!("{name}: assigned by the host: {complaint}");
            }
            config
        };
        Stack::current().add_numbered_interface(number, device, configure);
    }

    /// Says what is not there, once all devices that the machine started with were added.
    pub(crate) fn report_missing(self) {
        Stack::current().report_missing_interfaces(self.settings);
    }
}
