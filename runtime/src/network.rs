//! Network interfaces: from a device to the stack, with the addresses it shall have.

use alloc::boxed::Box;

use rekernel_core::config::Settings;
use rekernel_core::net::Stack;
use rekernel_core::net::device::NetworkDevice;

use crate::heap;

/// Lets the buffers of the running runtime's stack take half of the heap as it is now: what comes
/// from the network must not be able to exhaust the application's memory.
pub(crate) fn limit_buffers() {
    Stack::current().set_buffer_limit(heap::information().total / 2);
}

/// Takes the devices of a machine, in order.
pub(crate) struct Interfaces<'a> {
    settings: &'a Settings,
    added: usize,
}

impl<'a> Interfaces<'a> {
    /// Prepares the stack of the running runtime.
    pub(crate) fn new(settings: &'a Settings) -> Self {
        limit_buffers();
        Self { settings, added: 0 }
    }

    /// Hands a device to the stack of the running runtime.
    pub(crate) fn add(&mut self, device: Box<dyn NetworkDevice>) {
        let (config, complaints) = self
            .settings
            .address_config(self.added, device.assigned_address());
        for complaint in complaints {
            log::error!("{}: assigned by the host: {complaint}", device.name());
        }
        Stack::current().add_interface(device, config);
        self.added += 1;
    }

    /// Says what is not there, once all devices were added.
    pub(crate) fn finish(self) {
        let stack = Stack::current();
        stack.report_missing_interfaces(self.settings);
        stack.set_dns_servers(self.settings.dns.clone());
    }
}
