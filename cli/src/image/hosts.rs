//! What a host is told about a guest that boots from an image: files to start from.
//!
//! Each names the image where such hosts keep theirs; the paths are to be adjusted, and so are the
//! names of bridges and storage.

use anyhow::Result;

use super::Content;
use super::xml::escaped;

/// For `xl create`: an HVM guest with the raw image as its disk.
pub(super) fn xl(content: &Content) -> String {
    let Content {
        name, memory_mib, ..
    } = content;
    format!(
        "# Made by `cargo rekernel image`. The guest's command line is in the image.\n\
         type = \"hvm\"\n\
         name = \"{name}\"\n\
         memory = {memory_mib}\n\
         vcpus = 1\n\
         disk = [ \"format=raw,vdev=hda,access=rw,target=/var/lib/xen/images/{name}.raw\" ]\n\
         vif = [ \"bridge=xenbr0\" ]\n\
         vga = \"none\"\n\
         on_poweroff = \"destroy\"\n\
         on_reboot = \"restart\"\n\
         on_crash = \"restart\"\n"
    )
}

/// For `virsh -c xen:///system define`: the same guest.
pub(super) fn libvirt(content: &Content) -> String {
    let name = escaped(&content.name);
    let memory_mib = content.memory_mib;
    format!(
        "<!-- Made by `cargo rekernel image`. The guest's command line is in the image. -->\n\
         <domain type=\"xen\">\n\
         \x20 <name>{name}</name>\n\
         \x20 <memory unit=\"MiB\">{memory_mib}</memory>\n\
         \x20 <vcpu>1</vcpu>\n\
         \x20 <os>\n\
         \x20   <type arch=\"x86_64\" machine=\"xenfv\">hvm</type>\n\
         \x20   <boot dev=\"hd\"/>\n\
         \x20 </os>\n\
         \x20 <features>\n\
         \x20   <acpi/>\n\
         \x20   <apic/>\n\
         \x20   <pae/>\n\
         \x20 </features>\n\
         \x20 <on_poweroff>destroy</on_poweroff>\n\
         \x20 <on_reboot>restart</on_reboot>\n\
         \x20 <on_crash>restart</on_crash>\n\
         \x20 <devices>\n\
         \x20   <disk type=\"file\" device=\"disk\">\n\
         \x20     <driver name=\"qemu\" type=\"raw\"/>\n\
         \x20     <source file=\"/var/lib/libvirt/images/{name}.raw\"/>\n\
         \x20     <target dev=\"hda\" bus=\"ide\"/>\n\
         \x20   </disk>\n\
         \x20   <interface type=\"bridge\">\n\
         \x20     <source bridge=\"xenbr0\"/>\n\
         \x20   </interface>\n\
         \x20   <console type=\"pty\">\n\
         \x20     <target type=\"xen\"/>\n\
         \x20   </console>\n\
         \x20 </devices>\n\
         </domain>\n"
    )
}

/// For OpenTofu or Terraform with the provider `xenorchestra`: guests made from a template that was
/// imported into XCP-ng as an `xva`.
pub(super) fn terraform(content: &Content) -> Result<String> {
    let Content {
        name, memory_mib, ..
    } = content;
    Ok(format!(
        "# Made by `cargo rekernel image`. Once for each pool, on a host of it:\n\
         #\n\
         #   uuid=$(xe vm-import filename={name}.xva)\n\
         #   xe vm-param-set uuid=$uuid is-a-template=true\n\
         #\n\
         # The address of Xen Orchestra and the right to use it are in XOA_URL and XOA_TOKEN.\n\
         \n\
         terraform {{\n\
         \x20 required_providers {{\n\
         \x20   xenorchestra = {{\n\
         \x20     source = \"vatesfr/xenorchestra\"\n\
         \x20   }}\n\
         \x20 }}\n\
         }}\n\
         \n\
         variable \"pool\" {{\n\
         \x20 type        = string\n\
         \x20 description = \"Name of the pool\"\n\
         }}\n\
         \n\
         variable \"storage\" {{\n\
         \x20 type        = string\n\
         \x20 description = \"Name of the storage repository for disks\"\n\
         \x20 default     = \"Local storage\"\n\
         }}\n\
         \n\
         variable \"network\" {{\n\
         \x20 type        = string\n\
         \x20 description = \"Name of the network\"\n\
         \x20 default     = \"Pool-wide network associated with eth0\"\n\
         }}\n\
         \n\
         variable \"guests\" {{\n\
         \x20 type        = number\n\
         \x20 description = \"How many guests\"\n\
         \x20 default     = 1\n\
         }}\n\
         \n\
         data \"xenorchestra_pool\" \"pool\" {{\n\
         \x20 name_label = var.pool\n\
         }}\n\
         \n\
         data \"xenorchestra_template\" \"guest\" {{\n\
         \x20 name_label = \"{name}\"\n\
         \x20 pool_id    = data.xenorchestra_pool.pool.id\n\
         }}\n\
         \n\
         data \"xenorchestra_sr\" \"storage\" {{\n\
         \x20 name_label = var.storage\n\
         \x20 pool_id    = data.xenorchestra_pool.pool.id\n\
         }}\n\
         \n\
         data \"xenorchestra_network\" \"network\" {{\n\
         \x20 name_label = var.network\n\
         \x20 pool_id    = data.xenorchestra_pool.pool.id\n\
         }}\n\
         \n\
         resource \"xenorchestra_vm\" \"guest\" {{\n\
         \x20 count      = var.guests\n\
         \x20 name_label = \"{name}-${{count.index}}\"\n\
         \x20 template   = data.xenorchestra_template.guest.id\n\
         \x20 cpus       = 1\n\
         \x20 memory_max = {memory}\n\
         \n\
         \x20 network {{\n\
         \x20   network_id = data.xenorchestra_network.network.id\n\
         \x20 }}\n\
         \n\
         \x20 disk {{\n\
         \x20   name_label = \"{name}-${{count.index}}\"\n\
         \x20   sr_id      = data.xenorchestra_sr.storage.id\n\
         \x20   size       = {size}\n\
         \x20 }}\n\
         }}\n",
        memory = u64::from(*memory_mib) << 20,
        size = content.disk()?.size(),
    ))
}
