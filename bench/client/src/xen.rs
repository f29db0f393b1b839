//! What is asked of Xen: to let a guest run, and whether it has shut down. Through Xen's own
//! control library: starting `xl unpause` takes longer than a guest's boot.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::mem::transmute;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};

use crate::Result;

/// A guest.
pub(crate) struct Domain {
    control: Control,
    number: u32,
}

impl Domain {
    /// The guest of this number.
    pub(crate) fn numbered(number: u32) -> Result<Self> {
        let control = Control::open()?;
        Ok(Self { control, number })
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Lets it run.
    pub(crate) fn unpause(&self) -> Result<()> {
        let control = &self.control;
        // SAFETY: the interface is open, and the function takes these types (xenctrl.h).
        let status = unsafe { (control.unpause)(control.interface.as_ptr(), self.number) };
        if status == 0 {
            Ok(())
        } else {
            Err(format!("domain {} cannot be unpaused", self.number).into())
        }
    }

    /// Whether it has ended by itself. It then stays, as long as the toolstack keeps it.
    pub(crate) fn has_shut_down(&self) -> Result<bool> {
        let control = &self.control;
        let mut buffer = Information([0; 128]);
        let interface = control.interface.as_ptr();
        // SAFETY: as above. One entry is asked for, and the buffer is several times its size.
        let count = unsafe { (control.information)(interface, self.number, 1, &raw mut buffer) };
        // Where there is no such domain Xen tells of the next one.
        let found = count == 1 && buffer.0[0] & 0xffff == u64::from(self.number);
        Ok(!found || buffer.0[0] >> 32 & FLAG_SHUTDOWN != 0)
    }
}

/// `XEN_DOMINF_shutdown` of Xen's public/domctl.h, in the flags that follow the domain's number
/// and its padding at the beginning of `xen_domctl_getdomaininfo`.
const FLAG_SHUTDOWN: u64 = 1 << 2;

/// Room for one `xen_domctl_getdomaininfo`, of 120 bytes or so.
#[repr(C)]
struct Information([u64; 128]);

/// Xen's control library, open.
struct Control {
    interface: NonNull<c_void>,
    unpause: Unpause,
    information: InformationList,
}

unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

const RTLD_NOW: c_int = 2;

type Open = unsafe extern "C" fn(*mut c_void, *mut c_void, c_uint) -> *mut c_void;
type Unpause = unsafe extern "C" fn(*mut c_void, u32) -> c_int;
type InformationList = unsafe extern "C" fn(*mut c_void, u32, c_uint, *mut Information) -> c_int;

impl Control {
    fn open() -> Result<Self> {
        let file = library()?;
        let name = CString::new(file.as_os_str().as_encoded_bytes())?;
        // SAFETY: a library of Xen's tools, whose start-up code touches nothing of ours.
        let library = unsafe { dlopen(name.as_ptr(), RTLD_NOW) };
        let library =
            NonNull::new(library).ok_or_else(|| format!("{} cannot be loaded", file.display()))?;
        let open = symbol(library, "xc_interface_open")?;
        // SAFETY: the type is that of xenctrl.h.
        let open = unsafe { transmute::<*mut c_void, Open>(open.as_ptr()) };
        let unpause = symbol(library, "xc_domain_unpause")?;
        let information = symbol(library, "xc_domain_getinfolist")?;
        // SAFETY: no logger and no flags are allowed.
        let interface = unsafe { open(ptr::null_mut(), ptr::null_mut(), 0) };
        Ok(Self {
            interface: NonNull::new(interface).ok_or("Xen cannot be asked: is this dom0?")?,
            // SAFETY: the type is that of xenctrl.h.
            unpause: unsafe { transmute::<*mut c_void, Unpause>(unpause.as_ptr()) },
            // SAFETY: as above; `Information` stands for the structure it writes.
            information: unsafe { transmute::<*mut c_void, InformationList>(information.as_ptr()) },
        })
    }
}

/// The library's file, whose name ends in Xen's version.
fn library() -> Result<PathBuf> {
    const FOLDER: &str = "/usr/lib/x86_64-linux-gnu";
    for entry in Path::new(FOLDER).read_dir()? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(b"libxenctrl.so.")
        {
            return Ok(entry.path());
        }
    }
    Err(format!("there is no libxenctrl in {FOLDER}").into())
}

fn symbol(library: NonNull<c_void>, name: &str) -> Result<NonNull<c_void>> {
    let c_name = CString::new(name)?;
    // SAFETY: the library is loaded and never unloaded, the name ends in a zero byte.
    let found = unsafe { dlsym(library.as_ptr(), c_name.as_ptr()) };
    NonNull::new(found).ok_or_else(|| format!("libxenctrl has no {name}").into())
}
