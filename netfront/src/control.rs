//! The control task: connects, follows the backend, connects again.

mod pace;
mod publish;
mod reports;

use alloc::format;
use alloc::rc::{Rc, Weak};
use alloc::string::{String, ToString};
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::Poll;
use core::time::Duration;

use xen_proto::hypervisor::{DomainId, Hypervisor};
use xen_proto::ring::RingIndex;
use xen_proto::turns;
use xen_proto::xenbus::{self, Action, Follower, Frontend, Observation, Phase, State};
use xen_proto::xenstore::{Store, StoreError, join};

pub use self::pace::CONNECT_TIMEOUT;
use self::pace::{Pace, SHORTEST_RETRY};
use self::publish::Found;

use crate::connection::{Connection, Memory};
use crate::settings;
use crate::shared::Shared;

/// How long to look back on when deciding whether to give pages back.
const REST_INTERVAL: Duration = Duration::from_secs(10);

/// The half of an interface that deals with xenstore. It must [`run`](Self::run) for the
/// device to do anything.
pub struct Control<H: Hypervisor> {
    hypervisor: H,
    nodes: xenbus::Device<H>,
    shared: Rc<RefCell<Shared<H>>>,
    /// Where the ring positions begin; anything but zero is for tests.
    ring_start: RingIndex,
    frontend: Frontend,
    /// An action that xenstore kept from being done: to be tried again.
    owed: Option<Action>,
    /// What publishing needs, where it was read with the last observation.
    found: Option<Found>,
    /// Nodes were written outside of a transaction, and the device not seen there since: it may
    /// have been taken away before, and they have made it again.
    unconfirmed: bool,
    /// Rings that the backend was told of and has not connected to.
    published: Option<Connection<H>>,
    /// Rings that the backend has not been told to leave.
    retired: Option<Connection<H>>,
    /// Granted pages without a connection.
    memory: Option<Memory<H>>,
    /// Whom the published rings are for.
    backend: Option<(String, DomainId)>,
    pace: Pace,
    /// When to see whether a connection that has grown needs its pages.
    rest_at: Option<Duration>,
}

/// Tells an interface that the guest was restored in another domain. Does not keep it alive.
pub struct ResumeHandle<H: Hypervisor> {
    shared: Weak<RefCell<Shared<H>>>,
}

impl<H: Hypervisor> ResumeHandle<H> {
    /// The guest is another domain now: the link goes down, and grants and ports end, all at once. To be
    /// called before any other task runs. False if the interface is gone.
    pub fn restored(&self) -> bool {
        match self.shared.upgrade() {
            Some(shared) => {
                shared.borrow_mut().restore();
                true
            }
            None => false,
        }
    }

    /// Whether the interface is there still.
    pub fn is_alive(&self) -> bool {
        self.shared.strong_count() > 0
    }

    /// Whether the [control task](Control::run) has given up what it was at since
    /// [`restored`](Self::restored), or there is none any more. Until then xenstore must stay
    /// [detached](Store::detach): what was meant for the old domain would be written in the new one.
    pub fn is_settled(&self) -> bool {
        match self.shared.upgrade() {
            Some(shared) => shared.borrow().is_settled(),
            None => true,
        }
    }
}

/// Why following ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done,
    /// The guest is another domain.
    Restored,
}

impl Ended {
    fn is_restored(self) -> bool {
        self == Self::Restored
    }
}

/// Why an attempt to connect came to nothing.
enum Failure {
    /// Worth a message, and another attempt later.
    Attempt(String),
    /// The store let us down.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<H: Hypervisor> Control<H> {
    pub(crate) fn new(
        hypervisor: H,
        store: Store<H>,
        handle: u32,
        shared: Rc<RefCell<Shared<H>>>,
        ring_start: RingIndex,
    ) -> Self {
        let now = hypervisor.now();
        Self {
            nodes: xenbus::Device::new(store, &format!("device/vif/{handle}")),
            hypervisor,
            shared,
            ring_start,
            frontend: Frontend::new(),
            owed: None,
            found: None,
            unconfirmed: false,
            published: None,
            retired: None,
            memory: None,
            backend: None,
            pace: Pace::new(now),
            rest_at: None,
        }
    }

    /// What tells the interface that the guest was restored.
    pub fn resume_handle(&self) -> ResumeHandle<H> {
        ResumeHandle {
            shared: Rc::downgrade(&self.shared),
        }
    }

    /// Connects, follows the backend, and connects again whenever that is possible. Ends when the
    /// device was dropped, with everything given back; or when xenstored breaks its protocol: an
    /// existing connection then goes on working.
    pub async fn run(mut self) {
        let hypervisor = self.hypervisor.clone();
        let run = async {
            while self.run_in_one_domain().await.is_restored() {
                self.start_over();
            }
        };
        turns::with_memory(&hypervisor, run).await;
    }

    /// Runs until the guest is restored in another domain: then gives up whatever it is at, so that
    /// nothing meant for the old one is done in the new one.
    async fn run_in_one_domain(&mut self) -> Ended {
        let shared = self.shared.clone();
        let mut follow = pin!(self.follow_persistently());
        poll_fn(|context| {
            let restored = shared.borrow_mut().poll_restored(context);
            match restored {
                Poll::Ready(()) => Poll::Ready(Ended::Restored),
                Poll::Pending => follow.as_mut().poll(context).map(|()| Ended::Done),
            }
        })
        .await
    }

    /// Forgets the life before: its grants and ports are gone, its nodes were another domain's.
    fn start_over(&mut self) {
        self.frontend = Frontend::new();
        self.owed = None;
        self.published = None;
        self.retired = None;
        self.memory = None;
        self.backend = None;
        self.rest_at = None;
        self.pace = Pace::new(self.hypervisor.now());
        let mut shared = self.shared.borrow_mut();
        shared.frontend = State::Initialising;
        shared.backend = State::Unknown;
        shared.last_problem = None;
        shared.rests = false;
    }

    /// Follows until there is nothing left to follow.
    async fn follow_persistently(&mut self) {
        loop {
            let Err(error) = self.follow().await else {
                return;
            };
            self.log_problem(format_args!("{error}"));
            if matches!(error, StoreError::Broken(_)) {
                return;
            }
            let next = self.hypervisor.now() + SHORTEST_RETRY;
            self.hypervisor.sleep_until(next).await;
        }
    }

    /// Ends in order when the device was dropped.
    async fn follow(&mut self) -> Result<(), StoreError> {
        let mut follower = self.nodes.follow();
        let mut seen = self.look(&mut follower).await?;
        loop {
            self.shared.borrow_mut().backend = seen.backend;
            if !seen.present {
                self.shared.borrow_mut().set_present(false);
            }
            if self.shared.borrow().is_abandoned() {
                return self.leave(&seen).await;
            }
            let action = self.next_action(&seen, &follower);
            if action == Action::Wait {
                self.let_rest();
                self.wait(&mut follower).await?;
                self.report_if_late(&follower).await?;
                seen = self.look(&mut follower).await?;
                continue;
            }
            // Were it to fail, it would be taken for done: remember it until it is.
            self.owed = Some(action);
            let seen_since = self.perform(action, &seen, &mut follower).await?;
            self.owed = None;
            seen = match seen_since {
                Some(seen) => seen,
                None => self.look(&mut follower).await?,
            };
        }
    }

    /// Looks at the device and its backend. As long as the rings are to be published next, that
    /// includes all that publishing needs: asked for together it takes no longer.
    async fn look(&mut self, follower: &mut Follower<H>) -> Result<Observation, StoreError> {
        self.found = None;
        if !matches!(self.frontend.phase(), Phase::Absent | Phase::Initialising) {
            let (seen, ours) = join(follower.observe(), self.nodes.state()).await;
            return Ok(self.unless_replaced(seen?, ours?));
        }
        let (ours, observed) = join(
            self.read_ours(),
            follower.observe_with(async |path| self.read_theirs(path).await),
        )
        .await;
        let (seen, theirs) = observed?;
        self.found = Some(Found {
            ours: ours?,
            theirs: theirs.transpose()?,
        });
        Ok(seen)
    }

    /// A device that was taken away and added again between two looks says that it is new, where
    /// we have written another state: the one we knew is gone, and the next look finds the other.
    fn unless_replaced(&self, seen: Observation, ours: State) -> Observation {
        let written = self.shared.borrow().frontend;
        if ours == State::Initialising && written != State::Initialising {
            return Observation {
                present: false,
                backend: State::Unknown,
                online: false,
            };
        }
        seen
    }

    fn next_action(&mut self, seen: &Observation, follower: &Follower<H>) -> Action {
        if let Some(action) = self.owed.take() {
            return action;
        }
        let broken = self.shared.borrow().is_broken();
        if broken {
            self.pace.failed(self.hypervisor.now());
        }
        let published = matches!(self.frontend.phase(), Phase::Published | Phase::Running);
        let moved = seen.present && published && self.backend != address(follower);
        if broken || moved {
            let action = self.frontend.fail();
            if action != Action::Wait {
                return action;
            }
        }
        if let Action::Restart { acknowledged } = self.frontend.peek(seen)
            && self.hypervisor.now() < self.pace.restart_at(acknowledged)
        {
            return Action::Wait;
        }
        self.frontend.step(seen)
    }

    /// Returns what there is to see now, where that is known: what was `seen` before if nothing
    /// was awaited.
    async fn perform(
        &mut self,
        action: Action,
        seen: &Observation,
        follower: &mut Follower<H>,
    ) -> Result<Option<Observation>, StoreError> {
        match action {
            Action::Wait => {}
            Action::Begin | Action::Restart { .. } => {
                if self.pace.report_at.is_none() {
                    self.pace.awaited(self.hypervisor.now());
                }
                self.identify();
                let found = self.found.as_ref();
                // The toolstack says so of a device that is new.
                if found.is_some_and(|found| found.ours.state == State::Initialising) {
                    self.shared.borrow_mut().frontend = State::Initialising;
                    return Ok(Some(seen.clone()));
                }
                self.write_state(State::Initialising).await?;
            }
            Action::Publish => match self.publish(follower).await {
                Ok(seen) => return Ok(seen),
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Attempt(problem)) => {
                    self.log_problem(format_args!("{problem}"));
                    self.pace.failed(self.hypervisor.now());
                    self.count_failed_attempt();
                    self.owed = Some(self.frontend.fail());
                    self.close().await?;
                }
            },
            Action::Start => {
                self.start();
                return Ok(Some(seen.clone()));
            }
            Action::Close => self.close().await?,
            Action::Release => {
                self.clear().await?;
                self.release();
            }
        }
        Ok(None)
    }

    /// The addresses are known before the backend is ready, so that an interface can be set up.
    fn identify(&self) {
        let mut shared = self.shared.borrow_mut();
        shared.set_present(true);
        let Some(found) = &self.found else {
            return;
        };
        // Bad ones are reported when it comes to connecting.
        if let Ok(mac) = settings::parse_mac(found.ours.mac.as_deref()) {
            let assigned = found
                .theirs
                .as_ref()
                .and_then(|theirs| theirs.ip.as_deref());
            shared.identify(mac, settings::parse_assigned(assigned).unwrap_or(None));
        }
    }

    /// Removes what was written to a device that was not there any more.
    async fn clear(&mut self) -> Result<(), StoreError> {
        if self.unconfirmed {
            self.nodes.clear_if_gone().await?;
            self.unconfirmed = false;
        }
        Ok(())
    }

    fn start(&mut self) {
        let Some(connection) = self.published.take() else {
            return;
        };
        let now = self.hypervisor.now();
        self.pace.connected(now);
        let mut shared = self.shared.borrow_mut();
        log::info!("{}: connected: {}", shared.name, connection.summary());
        shared.connect(connection);
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        self.take_down();
        self.write_state(State::Closed).await?;
        self.pace.closed(self.hypervisor.now());
        // Only now may the ports close: the backend has been told.
        if let Some(connection) = self.retired.take() {
            self.memory = Some(connection.into_memory());
        }
        self.backend = None;
        Ok(())
    }

    /// The device was dropped: gives everything back.
    async fn leave(&mut self, seen: &Observation) -> Result<(), StoreError> {
        if seen.present && self.frontend.phase() != Phase::Absent {
            self.close().await?;
        }
        self.clear().await?;
        self.take_down();
        self.retired = None;
        self.memory = None;
        Ok(())
    }

    fn release(&mut self) {
        self.take_down();
        self.retired = None;
        self.memory = None;
        self.backend = None;
        self.pace.not_awaited();
        let mut shared = self.shared.borrow_mut();
        log::info!("{}: the device was taken away", shared.name);
        shared.frontend = State::Unknown;
    }

    /// Link down; the rings are kept in `retired`.
    fn take_down(&mut self) {
        let mut shared = self.shared.borrow_mut();
        if let Some(connection) = shared.disconnect() {
            let (receive_pages, transmit_pages) = connection.page_counts();
            log::info!(
                "{}: disconnected; backend is {}; {}; {receive_pages} and {transmit_pages} pages",
                shared.name,
                shared.backend,
                shared.counters
            );
            self.pace.disconnected(self.hypervisor.now());
            self.retired = Some(connection);
        }
        if let Some(connection) = self.published.take() {
            self.retired = Some(connection);
        }
    }

    async fn write_state(&mut self, state: State) -> Result<(), StoreError> {
        // False means that the device is gone, which the next observation tells as well.
        if self.nodes.write_state(state).await? {
            self.shared.borrow_mut().frontend = state;
        }
        Ok(())
    }

    /// Gives pages back after load: wakes up every [`REST_INTERVAL`] as long as there are any to
    /// give, and not at all otherwise.
    fn let_rest(&mut self) {
        let mut shared = self.shared.borrow_mut();
        if !shared.has_grown() {
            self.rest_at = None;
            shared.rests = false;
            return;
        }
        let now = self.hypervisor.now();
        match self.rest_at {
            Some(due) if now < due => return,
            Some(_) => shared.rest(),
            None => {}
        }
        self.rest_at = shared.has_grown().then_some(now + REST_INTERVAL);
        shared.rests = self.rest_at.is_some();
    }

    /// Waits for a change in xenstore, for the device to break or to have grown, or for the time
    /// to come to try again, to report, or to give pages back.
    async fn wait(&mut self, follower: &mut Follower<H>) -> Result<(), StoreError> {
        let deadline = self
            .pace
            .deadline(self.frontend.phase(), self.hypervisor.now())
            .into_iter()
            .chain(self.rest_at)
            .min();
        let mut sleep = deadline.map(|deadline| self.hypervisor.sleep_until(deadline));
        poll_fn(|context| {
            if self.shared.borrow_mut().poll_control(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if let Some(sleep) = &mut sleep
                && Pin::new(sleep).poll(context).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            follower.poll_changed(context)
        })
        .await
    }
}

/// Where the backend is, in all that identifies it.
fn address<H: Hypervisor>(follower: &Follower<H>) -> Option<(String, DomainId)> {
    Some((
        follower.backend_path()?.to_string(),
        follower.backend_domain()?,
    ))
}
