//! What xl reads of one guest.

/// The configuration of one guest for `xl create`.
#[derive(Clone, Debug)]
pub struct GuestConfiguration {
    /// The guest's name, unique on its host.
    pub name: String,
    /// Path of the ELF in dom0.
    pub kernel: String,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Keys for the guest's command line.
    pub append: Vec<String>,
    /// One entry per network interface, as xl's `vif` takes it.
    pub interfaces: Vec<String>,
    /// What xl does when the guest asks for a reboot: `restart` or `destroy`.
    pub on_reboot: &'static str,
    /// What xl does with a crashed guest: `preserve` or `destroy`.
    pub on_crash: &'static str,
    /// Further lines of the file.
    pub further: Vec<String>,
}

impl GuestConfiguration {
    /// The text of the file.
    pub fn text(&self) -> String {
        let interfaces: Vec<_> = self
            .interfaces
            .iter()
            .map(|interface| quoted(interface))
            .collect();
        format!(
            "type = \"pvh\"\nname = {}\nkernel = {}\nmemory = {}\nvcpus = 1\ncmdline = {}\nvif = [ {} ]\n\
             on_poweroff = \"destroy\"\non_reboot = {}\non_crash = {}\n{}",
            quoted(&self.name),
            quoted(&self.kernel),
            self.memory_mib,
            quoted(&self.append.join(" ")),
            interfaces.join(", "),
            quoted(self.on_reboot),
            quoted(self.on_crash),
            self.further
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )
    }
}

/// A string as xl's configuration reader takes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_what_xl_reads() {
        let configuration = GuestConfiguration {
            name: "http".to_owned(),
            kernel: "/guests/http".to_owned(),
            memory_mib: 16,
            append: vec!["ip=dhcp".to_owned(), "motto=\"a\\b\"".to_owned()],
            interfaces: vec!["bridge=xenbr0".to_owned()],
            on_reboot: "restart",
            on_crash: "preserve",
            further: vec!["maxmem = 32".to_owned()],
        };
        let text = configuration.text();
        assert!(
            text.contains("cmdline = \"ip=dhcp motto=\\\"a\\\\b\\\"\"\n"),
            "{text}"
        );
        assert!(text.contains("vif = [ \"bridge=xenbr0\" ]\n"), "{text}");
        assert!(text.ends_with("\nmaxmem = 32\n"), "{text}");
    }
}
