//! Answers what an operator asks of the running guest (`cargo rekernel inspect`). How questions come
//! and answers go is the platform's business: `xen_guest::monitor`, `pc::monitor`.

use alloc::string::String;
use core::time::Duration;

use rekernel_core::monitor::{Answer, Command, Question};
use rekernel_core::net::Stack;
use rekernel_core::report::{Entry, Sink};
use rekernel_core::time::sleep;

use crate::report::Section;
use crate::{information, logger};

/// How long neighbours have to answer before their silence is reported.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// The answer to a line, with each section of the report as `report` gives it. `None` if there is
/// nobody who could take an answer.
pub(crate) async fn answer(line: &str, report: impl Fn(Section, &mut Sink<'_>)) -> Option<String> {
    let Question { number, command } = Question::parse(line)?;
    let mut answer = Answer::new(number);
    match command {
        Ok(Command::Inspect) => {
            Stack::current().look_closely();
            sleep(ANSWER_TIME).await;
            inspect(&mut answer, report);
        }
        Ok(Command::ShowLog) => {}
        Ok(Command::SetLog(levels)) => {
            logger::set_levels(levels);
            log::info!(target: "rekernel", "log={} from now on, as the host wants", logger::levels());
        }
        Err(problem) => return Some(Answer::refusal(number, &problem)),
    }
    answer.line(format_args!(
        "{}",
        Entry::new(&"guest log", &[("levels", &logger::levels())])
    ));
    Some(answer.finish())
}

fn inspect(answer: &mut Answer, report: impl Fn(Section, &mut Sink<'_>)) {
    answer.line(format_args!(
        "{}",
        Entry::new(
            &"guest rekernel",
            &[
                ("version", &env!("CARGO_PKG_VERSION")),
                ("platform", &information::platform().name),
            ]
        )
    ));
    for section in Section::ALL {
        let title = section.title();
        report(section, &mut |entry| {
            answer.line(format_args!("{title} {entry}"));
        });
    }
}
