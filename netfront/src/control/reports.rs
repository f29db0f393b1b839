//! What is said of an interface without a connection.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use xen_proto::hypervisor::Hypervisor;
use xen_proto::xenbus::{Follower, Phase, State};
use xen_proto::xenstore::StoreError;

use super::Control;
use super::publish::read_if_there;

impl<H: Hypervisor> Control<H> {
    /// Says, after [`CONNECT_TIMEOUT`](super::CONNECT_TIMEOUT) and then ever more rarely, that there is no connection.
    pub(super) async fn report_if_late(
        &mut self,
        follower: &Follower<H>,
    ) -> Result<(), StoreError> {
        let now = self.hypervisor.now();
        let due = self.pace.report_at.is_some_and(|due| now >= due);
        if self.frontend.phase() == Phase::Running || !due {
            return Ok(());
        }
        let (frontend, backend) = {
            let shared = self.shared.borrow();
            (shared.frontend, shared.backend)
        };
        let reason = self.explain(backend, follower).await?;
        let waited = (now - self.pace.down_since).as_secs();
        self.pace.reported(now);
        self.count_failed_attempt();
        self.log_problem(format_args!(
            "no connection for {waited} s: frontend is {frontend}, backend is {backend}: \
             {reason}; still trying"
        ));
        Ok(())
    }

    /// What a person would want to know about why there is no connection.
    async fn explain(&self, backend: State, follower: &Follower<H>) -> Result<String, StoreError> {
        let Some(path) = follower.backend_path() else {
            return Ok(format!("{} names no backend", self.nodes.path()));
        };
        let reason = match (self.frontend.phase(), backend) {
            (_, State::Unknown) => "it has no state; is its driver loaded?",
            (Phase::Published, _) => "it has not taken up the rings",
            (Phase::Closed, State::Connected | State::Closing) => {
                "it does not let go of the last connection"
            }
            (_, State::Closing | State::Closed) => "it closed and has not come back",
            _ => "it has not finished starting",
        };
        let mut text = format!("{path}: {reason}");
        for name in ["hotplug-status", "hotplug-error"] {
            let node = format!("{path}/{name}");
            if let Some(value) = read_if_there(self.nodes.store(), &node).await? {
                let value: String = value.chars().take(80).collect();
                text += &format!(", {name} = {value:?}");
            }
        }
        Ok(text)
    }

    pub(super) fn count_failed_attempt(&self) {
        let counters = &mut self.shared.borrow_mut().counters;
        counters.failed_attempts = counters.failed_attempts.wrapping_add(1);
    }

    /// Logs a problem; the same one again only for those who debug.
    pub(super) fn log_problem(&self, problem: fmt::Arguments<'_>) {
        let mut shared = self.shared.borrow_mut();
        let problem = problem.to_string();
        if shared.last_problem.as_ref() == Some(&problem) {
            log::debug!("{}: {problem}", shared.name);
        } else {
            log::error!("{}: {problem}", shared.name);
            shared.last_problem = Some(problem);
        }
    }
}
