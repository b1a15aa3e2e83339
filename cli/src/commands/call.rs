//! `mproc call`

use crate::arguments::Arguments as Global;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{self, seconds};
use crate::session::Session;
use crate::values::message_pack;
use clap::Args;
use mproc::{ErrorKind, ServiceError};
use serde_json::Value;
use std::time::Duration;

/// Calls a service and prints its reply.
///
/// The request is JSON, null if it is left out; the reply is printed as JSON. mproc info SERVICE tells the types of both.
///
/// Exit codes: 1 the server failed, 2 the request is none of its type, 3 nobody serves it, 4 no reply within the limit.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc call status
  mproc call add '[2, 3]'
  mproc call robot/move '{\"x\": 1.5}' --timeout 30
  mproc call planner/plan '{}' --wait 10      waits until somebody serves it")]
pub(crate) struct Arguments {
    /// What the service is called.
    service: String,
    /// The request, as JSON.
    #[arg(default_value = "null", allow_hyphen_values = true)]
    value: String,
    /// How long to wait for the reply.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    timeout: Duration,
    /// How long to wait until somebody serves it.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0")]
    wait: Duration,
    /// The reply on one line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    let request: Value = serde_json::from_str(&arguments.value)
        .map_err(|error| Failure::new(Code::Usage, format!("VALUE is no JSON: {error}")))?;
    let request = rmp_serde::to_vec_named(&request)
        .map_err(|error| Failure::new(Code::Usage, format!("VALUE: {error}")))?;
    let session = Session::join(global)?;
    let world = session.look()?;
    let is_served = world
        .service(&arguments.service)
        .map(|service| service.server_count() > 0);
    if arguments.wait.is_zero() && !matches!(is_served, Ok(true)) {
        return Err(nobody(arguments, is_served.err()));
    }
    let client = session
        .raw_client(&arguments.service)
        .map_err(|error| match error.kind() {
            ErrorKind::InvalidName => Failure::new(Code::Usage, error.to_string()),
            _ => Failure::from(error),
        })?;
    // One that is known to be there must be met, which takes a moment whatever the limit of the call is.
    let is_there = matches!(is_served, Ok(true));
    let limit = match is_there {
        true => {
            let longest = arguments.wait.max(arguments.timeout);
            longest.max(session.look_limit())
        }
        false => arguments.wait,
    };
    match client.wait_for_service(limit) {
        Err(error) if error.kind() == ErrorKind::Timeout && is_there => {
            let text = format!("call of {:?}: its server did not answer", arguments.service);
            return Err(Failure::new(Code::TimeLimit, text).hint("mproc doctor"));
        }
        Err(error) if error.kind() == ErrorKind::Timeout => return Err(nobody(arguments, None)),
        met => met?,
    }
    let reply = client
        .call(request)
        .limit(arguments.timeout)
        .wait()
        .map_err(|error| failure(&error, arguments))?;
    let reply = message_pack(&reply).map_err(|error| {
        Failure::new(Code::Failed, format!("the reply cannot be read: {error}"))
    })?;
    if arguments.json {
        return output::json_line(&mut output::standard(), &reply);
    }
    output::json(&reply)
}

/// The service is not there. What was looked for says more.
fn nobody(arguments: &Arguments, looked: Option<Failure>) -> Failure {
    looked.unwrap_or_else(|| {
        Failure::not_found(format!("nobody serves {:?}", arguments.service))
            .hint("--wait SECONDS, if a server is about to start")
    })
}

fn failure(error: &ServiceError, arguments: &Arguments) -> Failure {
    let service = &arguments.service;
    let text = format!("call of {service:?}: {error}");
    match error {
        ServiceError::NoServer => nobody(arguments, None),
        ServiceError::Timeout => Failure::new(Code::TimeLimit, text)
            .hint(format!("a longer --timeout; mproc info {service:?}")),
        ServiceError::Undecodable(_) | ServiceError::NotSent(_) => Failure::new(Code::Usage, text)
            .hint(format!(
                "mproc info {service:?} tells the type of its requests"
            )),
        ServiceError::Interrupted => Failure::silent(Code::Failed),
        _ => Failure::new(Code::Failed, text),
    }
}
