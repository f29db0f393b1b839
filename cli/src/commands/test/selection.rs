//! Which of a guest's tests are run.

use super::TestArguments;

/// A test as the guest knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Its number in the guest.
    pub(super) number: usize,
    /// Its modules and function.
    pub(super) name: String,
}

/// The tests to run, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// In the order of their names.
    pub(super) chosen: Vec<Named>,
    /// How many others there are.
    pub(super) filtered_out: usize,
}

impl Selection {
    /// Chooses as the command line says.
    pub(super) fn new(tests: Vec<Named>, arguments: &TestArguments) -> Self {
        let matches = |name: &str, filter: &String| match arguments.exact {
            true => name == filter,
            false => name.contains(filter.as_str()),
        };
        let count = tests.len();
        let mut chosen = tests;
        chosen.retain(|test| {
            let asked = arguments.filters.is_empty()
                || arguments
                    .filters
                    .iter()
                    .any(|filter| matches(&test.name, filter));
            asked
                && !arguments
                    .skip
                    .iter()
                    .any(|filter| matches(&test.name, filter))
        });
        chosen.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            filtered_out: count - chosen.len(),
            chosen,
        }
    }
}

/// An order for a guest: numbers, with ranges for what follows each other.
pub(super) fn order(numbers: impl IntoIterator<Item = usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = |(first, last): (usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.into_iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn chosen(line: &str) -> (Vec<String>, usize) {
        let command = <TestArguments as clap::Args>::augment_args(Command::new("test"));
        let matches = command.get_matches_from(line.split(' '));
        let arguments = TestArguments::from_arg_matches(&matches).unwrap();
        let tests = ["b::serves", "a::parses", "b::serves_twice"];
        let tests = tests.iter().enumerate().map(|(number, name)| Named {
            number,
            name: (*name).to_owned(),
        });
        let selection = Selection::new(tests.collect(), &arguments);
        let names = selection.chosen.into_iter().map(|test| test.name);
        (names.collect(), selection.filtered_out)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn filters_choose_by_a_part_of_the_name_or_the_whole() {
        assert_eq!(
            chosen("test").0,
            names(&["a::parses", "b::serves", "b::serves_twice"])
        );
        assert_eq!(
            chosen("test serves"),
            (names(&["b::serves", "b::serves_twice"]), 1)
        );
        assert_eq!(
            chosen("test twice parses").0,
            names(&["a::parses", "b::serves_twice"])
        );
        assert_eq!(chosen("test --exact b::serves"), (names(&["b::serves"]), 2));
        assert_eq!(chosen("test b:: --skip twice"), (names(&["b::serves"]), 2));
        assert_eq!(chosen("test nothing"), (Vec::new(), 3));
    }

    #[test]
    fn an_order_is_short() {
        assert_eq!(order([0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(order([3, 2]), "3,2");
        assert_eq!(order([]), "");
    }
}
