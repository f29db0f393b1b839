//! Guest memory as a loader might leave it, for tests.

use std::boxed::Box;
use std::vec::Vec;

use crate::handover::LoaderMemory;

/// Bytes at addresses; what was not put there cannot be read.
#[derive(Default)]
pub(crate) struct FakeLoader {
    areas: Vec<(u64, &'static [u8])>,
}

/// Where [`FakeLoader::start_info`] is.
pub(crate) const START_INFO: u64 = 0x5000;
const MEMORY_MAP: u64 = 0x6000;
const MODULE_LIST: u64 = 0xa000;
pub(crate) const COMMAND_LINE: u64 = 0xc000;

impl FakeLoader {
    pub(crate) fn put(mut self, address: u64, bytes: impl Into<Vec<u8>>) -> Self {
        // Read by 'static reference, as in a guest; the tests are few.
        self.areas
            .push((address, Box::leak(bytes.into().into_boxed_slice())));
        self
    }

    /// A start info of version 1 at [`START_INFO`] with these lists of (start, size, kind) and
    /// (start, size, command line).
    pub(crate) fn start_info(self, map: &[(u64, u64, u32)], modules: &[(u64, u64, u64)]) -> Self {
        let mut header = Vec::new();
        for value in [0x336e_c578, 1, 0, modules.len() as u32] {
            header.extend(value.to_le_bytes());
        }
        let command_line = self.areas.iter().any(|area| area.0 == COMMAND_LINE);
        for value in [
            MODULE_LIST,
            if command_line { COMMAND_LINE } else { 0 },
            0,
            MEMORY_MAP,
            map.len() as u64,
        ] {
            header.extend(value.to_le_bytes());
        }
        let map: Vec<u8> = map
            .iter()
            .flat_map(|&(start, size, kind)| [start, size, kind.into()])
            .flat_map(u64::to_le_bytes)
            .collect();
        let modules: Vec<u8> = modules
            .iter()
            .flat_map(|&(start, size, command_line)| [start, size, command_line, 0])
            .flat_map(u64::to_le_bytes)
            .collect();
        self.put(START_INFO, header)
            .put(MEMORY_MAP, map)
            .put(MODULE_LIST, modules)
    }
}

impl LoaderMemory for FakeLoader {
    fn bytes(&self, address: u64, length: u64) -> Option<&'static [u8]> {
        self.areas.iter().find_map(|&(start, bytes)| {
            let offset = usize::try_from(address.checked_sub(start)?).ok()?;
            bytes.get(offset..offset.checked_add(usize::try_from(length).ok()?)?)
        })
    }
}
