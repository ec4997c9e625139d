//! The table of cmdlets: what each takes on every version that we serve.

use std::collections::{BTreeMap, BTreeSet};

/// Parameters that every cmdlet has, and whether they are switches (about_CommonParameters, 5.1). The table has none of
/// them: it is of what each cmdlet has for itself.
const COMMON: &[(&str, bool)] = &[
    ("ErrorAction", false),
    ("WarningAction", false),
    ("InformationAction", false),
    ("Verbose", true),
    ("Debug", true),
];

/// One parameter.
#[derive(Debug, Clone)]
struct Parameter {
    name: String,
    /// Every version has it.
    everywhere: bool,
    switch: bool,
    number: bool,
    /// By the parameter sets that it is in: whether it is mandatory there, whether it has a position there.
    sets: BTreeMap<String, (bool, bool)>,
    values: Vec<String>,
}

/// The table.
#[derive(Debug)]
pub struct Table(BTreeMap<String, (String, Vec<Parameter>, BTreeSet<String>)>);

/// One use of a cmdlet in a script.
#[derive(Debug, Clone, Default)]
pub struct Use {
    /// `Hyper-V\Get-VM`.
    pub name: String,
    /// Parameters with what is written behind them; a literal's text.
    pub parameters: Vec<(String, Vec<Argument>)>,
    /// Something stands before the first parameter, or behind a switch.
    pub by_position: bool,
    /// Something is piped into it.
    pub piped: bool,
}

/// What is written for a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// A word or text.
    Literal(String),
    /// Known when it runs.
    Other,
}

/// Tells whether a parameter that every cmdlet has is a switch.
fn common(parameter: &str) -> Option<bool> {
    let known = COMMON.iter().find(|(known, _)| *known == parameter);
    known.map(|(_, switch)| *switch)
}

impl Table {
    /// Reads `tests/data/powershell/cmdlets.tsv`.
    pub fn read() -> Self {
        let text = include_str!("../../../../tests/data/powershell/cmdlets.tsv");
        let mut table = BTreeMap::new();
        for row in text.lines().skip(1) {
            let cells: Vec<&str> = row.split('\t').collect();
            let [module, cmdlet, since, name, kind, _aliases, sets, values] = cells.as_slice() else {
                panic!("a row with {} cells: {row}", cells.len());
            };
            let (_, parameters, all_sets) = table
                .entry((*cmdlet).to_owned())
                .or_insert_with(|| ((*module).to_owned(), Vec::new(), BTreeSet::new()));
            if name.is_empty() {
                continue;
            }
            let set = |text: &str| {
                let (text, position) = text.split_once('@').map_or((text, false), |(set, _)| (set, true));
                let (text, mandatory) = text.strip_suffix('!').map_or((text, false), |set| (set, true));
                (text.trim_end_matches('*').to_owned(), (mandatory, position))
            };
            let sets: BTreeMap<_, _> = sets.split_whitespace().map(set).collect();
            all_sets.extend(sets.keys().cloned());
            parameters.push(Parameter {
                name: (*name).to_owned(),
                everywhere: ["2016", "5.1"].contains(since),
                switch: kind.ends_with("SwitchParameter"),
                number: ["Int32", "UInt32", "Int64"].contains(kind),
                sets,
                values: values
                    .split(',')
                    .filter(|value| !value.is_empty())
                    .map(ToOwned::to_owned)
                    .collect(),
            });
        }
        Self(table)
    }

    /// Returns the module of a cmdlet that is called without one.
    pub fn module(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(module, _, _)| module.as_str())
    }

    /// Tells whether a parameter of a cmdlet is a switch, so that what stands behind it is no value of it. One that the
    /// cmdlet does not have is none; it is a fault of its own.
    pub fn is_switch(&self, cmdlet: &str, parameter: &str) -> bool {
        let name = cmdlet.split_once('\\').map_or(cmdlet, |(_, name)| name);
        let known = self
            .0
            .get(name)
            .and_then(|(_, parameters, _)| parameters.iter().find(|known| known.name == parameter));
        known.map_or_else(|| common(parameter).unwrap_or(false), |known| known.switch)
    }

    /// Says what is wrong with a use.
    pub fn faults(&self, used: &Use) -> Vec<String> {
        // A program of Windows: its words are its own.
        if used.name.ends_with(".exe") {
            return Vec::new();
        }
        let (module, name) = used.name.split_once('\\').unwrap_or(("", &used.name));
        let Some((known_module, parameters, sets)) = self.0.get(name) else {
            return vec![format!(
                "{name} is not in the table (tests/data/powershell/cmdlets.tsv)"
            )];
        };
        let mut faults = Vec::new();
        if !module.is_empty() && module != known_module {
            faults.push(format!("{name} is of {known_module}"));
        }
        if used.by_position {
            faults.push(format!("{name} is given something by position"));
        }
        let mut given = Vec::new();
        for (index, (word, arguments)) in used.parameters.iter().enumerate() {
            if common(word).is_some() {
                continue;
            }
            let Some(parameter) = parameters.iter().find(|parameter| parameter.name == *word) else {
                faults.push(format!("{name} has no parameter -{word}"));
                continue;
            };
            if !parameter.everywhere {
                faults.push(format!("{name} has -{word} on some versions only"));
            }
            if used.parameters[..index]
                .iter()
                .any(|(earlier, _)| earlier == word)
            {
                faults.push(format!("{name} is given -{word} twice"));
            }
            if !parameter.switch && arguments.is_empty() {
                faults.push(format!("{name} -{word} stands without a value"));
            }
            for argument in arguments {
                let Argument::Literal(text) = argument else {
                    continue;
                };
                if !parameter.values.is_empty() && !parameter.values.contains(text) {
                    let values = parameter.values.join(",");
                    faults.push(format!("{name} -{word} {text} is not one of {values}"));
                }
                if parameter.number && text.parse::<i64>().is_err() {
                    faults.push(format!("{name} -{word} {text} is no number"));
                }
            }
            given.push(parameter);
        }
        let fits = |set: &String| {
            let mandatory = parameters.iter().filter(|parameter| {
                let known = parameter.sets.get(set);
                known.is_some_and(|(mandatory, position)| {
                    // What is piped in stands for the first one.
                    *mandatory && !(used.piped && *position)
                })
            });
            let mut missing =
                mandatory.filter(|parameter| given.iter().all(|given| given.name != parameter.name));
            given.iter().all(|parameter| parameter.sets.contains_key(set)) && missing.next().is_none()
        };
        if !sets.is_empty() && !sets.iter().any(fits) {
            let words: Vec<&str> = given.iter().map(|parameter| parameter.name.as_str()).collect();
            faults.push(format!(
                "no parameter set of {name} is that of {}",
                words.join(", ")
            ));
        }
        faults
    }
}
