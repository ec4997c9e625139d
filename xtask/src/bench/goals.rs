//! What is judged, and how it came out.

use crate::process::say;
use std::cell::RefCell;

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Better {
    Lower,
    Higher,
}

/// The verdicts so far.
#[derive(Debug, Default)]
pub struct Goals {
    lines: RefCell<Vec<String>>,
    missed: RefCell<bool>,
}

impl Goals {
    /// Judges one number.
    pub fn judge(&self, name: &str, value: f64, better: Better, goal: f64, remark: &str) {
        let reached = match better {
            Better::Lower => value <= goal,
            Better::Higher => value >= goal,
        };
        *self.missed.borrow_mut() |= !reached;
        self.lines.borrow_mut().push(format!(
            "  {name:<44} {value:>8.2}  (goal {} {goal}{remark}) {}",
            if better == Better::Lower { "<=" } else { ">=" },
            if reached { "reached" } else { "MISSED" }
        ));
    }

    /// Judges the median of the rounds' numbers.
    pub fn judge_rounds(&self, name: &str, mut values: Vec<f64>, better: Better, goal: f64) {
        values.sort_by(f64::total_cmp);
        let (Some(first), Some(last)) = (values.first(), values.last()) else {
            return;
        };
        let remark = format!("; {first:.2} to {last:.2}");
        self.judge(name, values[values.len() / 2], better, goal, &remark);
    }

    /// Prints every verdict. Tells whether a goal was missed.
    pub fn report(&self) -> bool {
        say("goals:");
        for line in self.lines.borrow().iter() {
            say(line);
        }
        *self.missed.borrow()
    }
}
