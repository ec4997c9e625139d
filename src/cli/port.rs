//! `TARGET|ENDPOINT` on the command line: which port is meant, and how it is opened when nobody has it.

use crate::bridge::{BreakMeans, TargetSource};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::target::{one_target, targets, the_one};
use crate::config::load::is_profile;
use crate::model::endpoint::TargetOrEndpointError;
use crate::model::{
    BreakWith, ClientSpec, EndpointError, EndpointSpec, FailureKind, LogSpec, Policy, PortIndex, PortSpec,
    Problem, TargetOrEndpoint, TargetSpec,
};
use crate::runner::break_means::break_means;
use crate::runner::local::Local;
use crate::session::planning::RealHosts;
use crate::session::port_key::PortKey;
use crate::session::target_port::{TargetPort, target_port};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which port.
#[derive(Debug, Clone, clap::Args)]
pub struct PortArgs {
    /// A target of the profile (whose file may stand beside it), or where the VM's port is, with our role: connect:unix:/run/vm1.serial
    #[arg(value_name = "TARGET|ENDPOINT", required = true, num_args = 1..=2, value_parser = PortWord::parse)]
    words: Vec<PortWord>,
    /// Which port of the target, from 1 [default: the one with the console]
    #[arg(long = "port", value_name = "N")]
    number: Option<PortIndex>,
    /// How BREAK reaches the guest when nobody has the port open yet: telnet, rfc2217, tty, qmp:PATH[,id=ID] or none
    /// [default: the endpoint's own (telnet, rfc2217, tty)]
    #[arg(long, value_name = "WAY")]
    break_with: Option<BreakWith>,
}

/// One word of `[PROFILE] TARGET|ENDPOINT`.
#[derive(Debug, Clone)]
enum PortWord {
    /// A profile's file.
    Profile(String),
    /// What the command is for.
    Port(TargetOrEndpoint),
}

impl PortWord {
    fn parse(text: &str) -> Result<Self, TargetOrEndpointError> {
        match text.parse() {
            Ok(endpoint @ TargetOrEndpoint::Endpoint(_)) => Ok(Self::Port(endpoint)),
            _ if is_profile(text) => Ok(Self::Profile(text.to_owned())),
            parsed => parsed.map(Self::Port),
        }
    }
}

impl PortArgs {
    /// Returns the profile's file if it stands among the words.
    fn profile(&self) -> Option<PathBuf> {
        self.words.iter().find_map(|word| match word {
            PortWord::Profile(file) => Some(PathBuf::from(file)),
            PortWord::Port(_) => None,
        })
    }
}

/// A port, found.
#[derive(Debug)]
pub struct PortPlace {
    /// As it is told to the user.
    pub shown: String,
    /// Its names among vmserial's processes.
    pub keys: Vec<PortKey>,
    /// Where it is.
    pub target: TargetSource,
    /// How BREAK reaches its guest.
    pub break_means: BreakMeans,
    /// Logs of the profile.
    pub log: LogSpec,
    /// Whom the profile serves beside a console on a port that kgdb shares; `None` where consoles have it for themselves.
    pub shared_with: Option<Vec<ClientSpec>>,
    /// The target's name and its profile, if that was named.
    pub profile_target: Option<(String, Option<PathBuf>)>,
}

impl PortPlace {
    /// Takes a target's port that was found already. No profile has the target.
    pub fn found(shown: String, port: TargetPort, spec: &PortSpec) -> Self {
        Self {
            shown,
            keys: port.keys,
            target: port.source,
            break_means: port.break_means,
            log: spec.log.clone(),
            shared_with: None,
            profile_target: None,
        }
    }

    /// Finds the port that the arguments mean.
    ///
    /// # Errors
    ///
    /// Usage: no endpoint of a VM, `--port` with an endpoint. Configuration and not found: the profile's.
    pub fn find(args: &PortArgs, context: &Context) -> Result<Self, Failure> {
        match args.words.as_slice() {
            [PortWord::Port(TargetOrEndpoint::Endpoint(endpoint))] => Self::of_endpoint(endpoint, args),
            [PortWord::Port(TargetOrEndpoint::Target(name))] => {
                Self::of_target(&one_target(&[name.to_string()], context)?, args, context)
            }
            [PortWord::Profile(file)] => {
                Self::of_target(&one_target(std::slice::from_ref(file), context)?, args, context)
            }
            [
                PortWord::Profile(file),
                PortWord::Port(TargetOrEndpoint::Target(name)),
            ]
            | [
                PortWord::Port(TargetOrEndpoint::Target(name)),
                PortWord::Profile(file),
            ] => {
                let words = [file.clone(), name.to_string()];
                Self::of_target(&the_one(targets(&words, context)?)?, args, context)
            }
            _ => Err(Problem::new(
                FailureKind::Usage,
                "expected one target or endpoint, and a profile's file beside a target at most",
            )
            .into()),
        }
    }

    fn of_target(target: &TargetSpec, args: &PortArgs, context: &Context) -> Result<Self, Failure> {
        let name = &target.name;
        let port = match args.number {
            Some(number) => target.port(number),
            None => target.console_port().or_else(|| target.ports.first()),
        };
        let mut port = port.cloned().ok_or_else(|| no_port(target, args.number))?;
        if let Some(way) = &args.break_with {
            port.break_with = Some(break_here(way).map_err(usage)?);
        }
        let found = target_port(&RealHosts::new(&context.state), target, &port)?;
        Ok(Self {
            shown: format!("port {} of {name}", port.port),
            keys: found.keys,
            target: found.source,
            break_means: found.break_means,
            log: port.log,
            shared_with: (port.policy == Policy::ConsoleGdb).then_some(port.serve),
            profile_target: Some((
                name.to_string(),
                args.profile().or_else(|| context.profile.clone()),
            )),
        })
    }

    fn of_endpoint(endpoint: &EndpointSpec, args: &PortArgs) -> Result<Self, Failure> {
        if args.number.is_some() {
            return Err(Problem::new(
                FailureKind::Usage,
                "`--port` chooses a port of a target, and an endpoint is one port already",
            )
            .into());
        }
        let endpoint = here(endpoint).map_err(usage)?;
        endpoint.check_as_target().map_err(usage)?;
        let break_means = match &args.break_with {
            Some(way) => named_break(way, &endpoint)?,
            None => BreakMeans::native_of(&endpoint),
        };
        Ok(Self {
            shown: endpoint.to_string(),
            keys: vec![PortKey::of_endpoint(&endpoint)],
            break_means,
            target: TargetSource::Fixed(endpoint),
            log: LogSpec::default(),
            shared_with: None,
            profile_target: None,
        })
    }
}

fn no_port(target: &TargetSpec, number: Option<PortIndex>) -> Problem {
    let has: Vec<String> = target
        .ports
        .iter()
        .map(|port| format!("{} ({})", port.port, port.policy))
        .collect();
    let message = match number {
        Some(number) => format!("the target `{}` has no port {number}", target.name),
        None => format!("the target `{}` has no port", target.name),
    };
    let problem = Problem::new(FailureKind::NotFound, message);
    if has.is_empty() {
        problem.hint("Give it one under `ports:` in the profile.")
    } else {
        problem.hint(format!("It has: {}.", has.join(", ")))
    }
}

/// Returns the endpoint with `~/` taken from the home folder. Other relative paths stay as they are: the system takes them
/// from the current folder, and a short path fits where an absolute one would not.
///
/// # Errors
///
/// See [`EndpointSpec::resolved`].
pub fn here(endpoint: &EndpointSpec) -> Result<EndpointSpec, EndpointError> {
    endpoint.resolved(Path::new(""), etcetera::home_dir().ok().as_deref())
}

/// Returns a way of sending BREAK with `~/` taken from the home folder.
///
/// # Errors
///
/// See [`BreakWith::resolved`].
pub fn break_here(way: &BreakWith) -> Result<BreakWith, EndpointError> {
    way.resolved(Path::new(""), etcetera::home_dir().ok().as_deref())
}

/// Makes the means of a way that was named for an endpoint.
///
/// # Errors
///
/// Usage: the endpoint does not have what the way needs. Precondition: not served yet.
pub fn named_break(way: &BreakWith, endpoint: &EndpointSpec) -> Result<BreakMeans, Problem> {
    way.check_for(endpoint)?;
    Ok(break_means(
        &break_here(way).map_err(usage)?,
        Arc::new(Local::new()),
    ))
}

/// A wrong endpoint on the command line.
pub fn usage(error: EndpointError) -> Problem {
    Problem::new(FailureKind::Usage, error.to_string())
}
