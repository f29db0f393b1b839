//! Medians, spread, and ratios within rounds.

use super::candidates::Candidate;
use super::figures::Figure;

/// One measured value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) candidate: Candidate,
    pub(crate) figure: Figure,
    pub(crate) value: f64,
}

/// The middle of several values and how far they are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) count: usize,
}

impl Spread {
    /// Of nothing there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let upper = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[upper]
        } else {
            f64::midpoint(values[upper - 1], values[upper])
        };
        Some(Self {
            median,
            least,
            most,
            count: values.len(),
        })
    }
}

/// Every sample of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets all but the first `length`.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter()
    }

    /// A candidate's figure over all rounds.
    pub(crate) fn spread(&self, figure: &Figure, candidate: Candidate) -> Option<Spread> {
        let of_it = |sample: &&Sample| sample.figure == *figure && sample.candidate == candidate;
        Spread::of(self.0.iter().filter(of_it).map(|sample| sample.value))
    }

    /// The ratios of rekernel to another candidate, each within one round.
    pub(crate) fn ratio(&self, figure: &Figure, other: Candidate) -> Option<Spread> {
        self.ratio_to(figure, |round| self.value(figure, other, round))
    }

    /// The ratios of rekernel to whichever Linux guest was better in the round.
    pub(crate) fn ratio_to_best_linux(&self, figure: &Figure) -> Option<Spread> {
        self.ratio_to(figure, |round| {
            let linux = Candidate::ALL.into_iter().filter(|other| other.is_linux());
            let values = linux.filter_map(|other| self.value(figure, other, round));
            values.reduce(|one, other| figure.better.best(one, other))
        })
    }

    fn ratio_to(&self, figure: &Figure, other: impl Fn(u32) -> Option<f64>) -> Option<Spread> {
        let rounds = self.0.iter().map(|sample| sample.round).max()?;
        Spread::of((0..=rounds).filter_map(|round| {
            let ratio = self.value(figure, Candidate::Rekernel, round)? / other(round)?;
            ratio.is_finite().then_some(ratio)
        }))
    }

    fn value(&self, figure: &Figure, candidate: Candidate, round: u32) -> Option<f64> {
        let found = self.0.iter().find(|sample| {
            sample.figure == *figure && sample.candidate == candidate && sample.round == round
        });
        found.map(|sample| sample.value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{CONNECTIONS, ROUND_TRIP};
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        let odd = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (odd.least, odd.median, odd.most, odd.count),
            (1.0, 2.0, 3.0, 3)
        );
        let even = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(even.median, 2.5);
    }

    fn samples(figure: Figure, values: &[(u32, Candidate, f64)]) -> Samples {
        let mut samples = Samples::default();
        for &(round, candidate, value) in values {
            samples.push(Sample {
                round,
                candidate,
                figure,
                value,
            });
        }
        samples
    }

    use Candidate::{LinuxPv, LinuxPvh, Rekernel};

    #[test]
    fn ratios_are_of_values_of_one_round() {
        // The machine was twice as slow in the second round: the ratio is the same.
        let samples = samples(
            ROUND_TRIP,
            &[
                (0, Rekernel, 1.0),
                (0, LinuxPvh, 4.0),
                (1, Rekernel, 2.0),
                (1, LinuxPvh, 8.0),
                (2, Rekernel, 1.0),
            ],
        );
        let ratio = samples.ratio(&ROUND_TRIP, LinuxPvh).unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most), (0.25, 0.25, 0.25));
        assert_eq!(ratio.count, 2, "the third round has only one side");
        assert_eq!(samples.ratio(&ROUND_TRIP, LinuxPv), None);
        assert_eq!(samples.ratio(&CONNECTIONS, LinuxPvh), None);
    }

    #[test]
    fn the_best_linux_is_chosen_in_each_round_and_by_direction() {
        let values = [
            (0, Rekernel, 6.0),
            (0, LinuxPvh, 3.0),
            (0, LinuxPv, 2.0),
            (1, Rekernel, 6.0),
            (1, LinuxPvh, 1.0),
            (1, LinuxPv, 2.0),
        ];
        let lower = samples(ROUND_TRIP, &values);
        let ratio = lower.ratio_to_best_linux(&ROUND_TRIP).unwrap();
        assert_eq!((ratio.least, ratio.most), (3.0, 6.0));
        let higher = samples(CONNECTIONS, &values);
        let ratio = higher.ratio_to_best_linux(&CONNECTIONS).unwrap();
        assert_eq!((ratio.least, ratio.most), (2.0, 3.0));
    }
}
