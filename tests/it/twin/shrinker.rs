//! Fewer steps that still show a difference.

use super::runner::{Difference, Twins};
use super::step::Step;

/// Leaves steps out, one after another, as long as the last one keeps its difference.
pub(super) async fn shrink(
    twins: &mut Twins,
    steps: &[Step],
    found: Difference,
    after: impl Fn(),
) -> (Vec<Step>, Difference) {
    let mut steps = steps[..=found.at].to_vec();
    let mut found = found;
    let mut at = steps.len() - 1;
    while at > 0 {
        at -= 1;
        let mut fewer = without(&steps, at);
        if let Some(difference) = twins.run(&fewer, &after).await {
            fewer.truncate(difference.at + 1);
            at = at.min(fewer.len());
            (steps, found) = (fewer, difference);
        }
    }
    (steps, found)
}

/// Without one step. With its first or last one goes a whole transaction, since an open one would hold up what follows.
fn without(steps: &[Step], at: usize) -> Vec<Step> {
    let step = &steps[at];
    let number = |step: &Step| step.command.get("txnNumber").cloned();
    let goes_whole = step.starts_transaction() || step.ends_transaction();
    let is_gone = |(other, candidate): (usize, &Step)| {
        let is_of_it = candidate.is_in_transaction() && number(candidate) == number(step);
        other == at || goes_whole && is_of_it
    };
    let kept = steps.iter().enumerate().filter(|pair| !is_gone(*pair));
    kept.map(|(_, step)| step.clone()).collect()
}
