/* Makes start_info.bin, a piece of guest memory as a loader leaves it, from Xen's own header:
 *
 *     cc -Wall -o make vectors/start_info.c && ./make > vectors/start_info.bin
 *
 * Needs Debian's libxen-dev. The tests in start_info.rs and boot_info_tests.rs know the values.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <xen/arch-x86/hvm/start_info.h>

/* Physical address of the first byte. */
#define BASE 0x10000

static struct {
    struct hvm_start_info start_info;
    struct hvm_modlist_entry modules[2];
    struct hvm_memmap_table_entry map[3];
    char command_line[32];
    char module_command_line[16];
} memory;

#define ADDRESS(field) (BASE + (uint64_t)((char *)&memory.field - (char *)&memory))

int main(void)
{
    memory.start_info = (struct hvm_start_info){
        .magic = XEN_HVM_START_MAGIC_VALUE,
        .version = 1,
        .flags = 0x01020304,
        .nr_modules = 2,
        .modlist_paddr = ADDRESS(modules),
        .cmdline_paddr = ADDRESS(command_line),
        .rsdp_paddr = 0xfc008000,
        .memmap_paddr = ADDRESS(map),
        .memmap_entries = 3,
    };
    memory.modules[0] = (struct hvm_modlist_entry){ .paddr = 0x700123, .size = 0x4567 };
    memory.modules[1] = (struct hvm_modlist_entry){
        .paddr = 0x720000,
        .size = 0x1000,
        .cmdline_paddr = ADDRESS(module_command_line),
    };
    memory.map[0] = (struct hvm_memmap_table_entry){
        .addr = 0, .size = 0x800000, .type = XEN_HVM_MEMMAP_TYPE_RAM };
    memory.map[1] = (struct hvm_memmap_table_entry){
        .addr = 0xfeff8000, .size = 0x8000, .type = XEN_HVM_MEMMAP_TYPE_RESERVED };
    memory.map[2] = (struct hvm_memmap_table_entry){
        .addr = 0xfc000000, .size = 0x1000, .type = XEN_HVM_MEMMAP_TYPE_ACPI };
    strcpy(memory.command_line, "ip=10.0.2.15/24 log=debug");
    strcpy(memory.module_command_line, "second module");
    return fwrite(&memory, sizeof memory, 1, stdout) != 1;
}
