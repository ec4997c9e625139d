//! `joins`: virtual cables between two ports.

use super::Validator;
use crate::config::node::FieldPath;
use crate::model::near::nearest;
use crate::model::profile::{PortProfile, Profile};
use crate::model::{PortIndex, TargetName};
use std::collections::BTreeMap;

impl Validator<'_> {
    /// Validates the joins.
    pub(super) fn joins(&mut self) {
        let mut ends: BTreeMap<(&TargetName, PortIndex), FieldPath> = BTreeMap::new();
        let profile = self.profile;
        for (index, join) in profile.joins.iter().enumerate() {
            let path = FieldPath::default().key("joins").index(index);
            for (key, written) in [("a", &join.a), ("b", &join.b)] {
                let here = path.key(key);
                let (name, port) = match end(profile, written) {
                    Ok(end) => end,
                    Err(message) => {
                        self.issue(&here, message);
                        continue;
                    }
                };
                if let Some(other) = ends.insert((name, port.port), here.clone()) {
                    self.issue(&here, format!("`{written}` has a cable already, at `{other}`"));
                }
                if port.policy != join.policy {
                    let message = format!(
                        "`{written}` has `as: {}`, and the cable has `as: {}`",
                        port.policy, join.policy
                    );
                    self.issue(&path.key("as"), message);
                }
                if !port.serve.is_empty() {
                    let message =
                        format!("`{written}` has `serve`, and the cable is all that a joined port has");
                    self.issue(&here, message);
                }
                if key == "a" && port.log.is_some() {
                    let message = format!("`{written}` has `log`; a cable logs what its end `b` sends");
                    self.issue(&here, message);
                }
            }
        }
    }
}

/// Finds the port of `TARGET/PORT`.
fn end<'p>(profile: &'p Profile, written: &str) -> Result<(&'p TargetName, &'p PortProfile), String> {
    let wrong = || format!("`{written}` is no port of a target here, expected `TARGET/PORT`");
    let (name, number) = written.rsplit_once('/').ok_or_else(wrong)?;
    let Some((name, target)) = profile.targets.iter().find(|(known, _)| known.as_str() == name) else {
        let names = profile.targets.keys().map(TargetName::as_str);
        return Err(match nearest(name, names) {
            Some(near) => format!("{}; did you mean `{near}/{number}`?", wrong()),
            None => wrong(),
        });
    };
    let port = number
        .parse::<PortIndex>()
        .ok()
        .and_then(|number| target.ports.iter().find(|port| port.port == number));
    port.map(|port| (name, port)).ok_or_else(|| {
        let has: Vec<String> = target.ports.iter().map(|port| port.port.to_string()).collect();
        match has.as_slice() {
            [] => format!("`{name}` has no ports"),
            has => format!(
                "`{name}` has no port `{number}`, expected one of {}",
                has.join(", ")
            ),
        }
    })
}
