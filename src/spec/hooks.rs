//! `hooks`: programs of the caller at points of a container's life.

use std::time::Duration;

use oci_spec::runtime as oci;

use super::field::Field;
use super::plan::{Hook, Hooks};

/// The names of all hooks, in the order in which they are called.
pub(super) const NAMES: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// Plans all hooks; `field` is `hooks`.
#[allow(deprecated)] // prestart hooks are, and callers still ask for them
pub(crate) fn plan_hooks(hooks: Option<&oci::Hooks>, field: &mut Field<'_>) -> Hooks {
    let Some(hooks) = hooks else {
        return Hooks::default();
    };
    let mut list = |name: &str, list: &Option<Vec<oci::Hook>>| -> Vec<Hook> {
        let mut field = field.at(name);
        let list = list.iter().flatten().enumerate();
        list.map(|(index, hook)| plan_hook(hook, &mut field.item(index)))
            .collect()
    };
    Hooks {
        prestart: list("prestart", hooks.prestart()),
        create_runtime: list("createRuntime", hooks.create_runtime()),
        create_container: list("createContainer", hooks.create_container()),
        start_container: list("startContainer", hooks.start_container()),
        poststart: list("poststart", hooks.poststart()),
        poststop: list("poststop", hooks.poststop()),
    }
}

/// Plans the hooks of a container's record, which were checked when it was made.
pub fn plan_recorded_hooks(hooks: &oci::Hooks) -> Hooks {
    plan_hooks(Some(hooks), &mut Field::new("hooks", &mut Vec::new()))
}

/// What of the hooks is called by others than who makes the container; `None` if there is nothing.
#[allow(deprecated)]
pub fn recorded_hooks(hooks: Option<&oci::Hooks>) -> Option<oci::Hooks> {
    let any = |list: &Option<Vec<oci::Hook>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let hooks = hooks.filter(|hooks| any(hooks.poststart()) || any(hooks.poststop()))?;
    let mut recorded = hooks.clone();
    recorded
        .set_prestart(None)
        .set_create_runtime(None)
        .set_create_container(None)
        .set_start_container(None);
    Some(recorded)
}

fn plan_hook(hook: &oci::Hook, field: &mut Field<'_>) -> Hook {
    // As it is: what `..` means a symbolic link decides.
    field.at("path").absolute(hook.path());
    let path = field.at("path").c_string(hook.path());
    let mut strings = |name: &str, list: &Option<Vec<String>>| {
        let mut field = field.at(name);
        let list = list.iter().flatten().enumerate();
        list.map(|(index, text)| field.item(index).c_string(text))
            .collect()
    };
    let (mut args, env): (Vec<_>, _) = (strings("args", hook.args()), strings("env", hook.env()));
    if args.is_empty() {
        args.push(path.clone());
    }
    Hook {
        path,
        args,
        env,
        timeout: hook.timeout().and_then(|seconds| {
            let timeout = u64::try_from(seconds).ok().filter(|&seconds| seconds > 0);
            if timeout.is_none() {
                field
                    .at("timeout")
                    .refuse_and_hint(format_args!("{seconds} is no time"), "seconds, more than 0");
            }
            timeout.map(Duration::from_secs)
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::testing::{assert_refused, planned};

    #[test]
    fn without_arguments_a_hook_is_called_by_its_path() {
        let hooks = json!({
            "poststop": [{"path": "/bin/../h"}],
            "createContainer": [{"path": "/h", "args": ["a", "b"], "env": ["A=1"], "timeout": 3}],
        });
        let hooks = planned(&[("/hooks", hooks)]).hooks;
        assert_eq!(hooks.poststop[0].args, [c"/bin/../h".to_owned()]);
        assert_eq!(hooks.poststop[0].timeout, None);
        let hook = &hooks.create_container[0];
        assert_eq!(hook.args, [c"a".to_owned(), c"b".to_owned()]);
        assert_eq!(hook.env, [c"A=1".to_owned()]);
        assert_eq!(hook.timeout, Some(Duration::from_secs(3)));
        assert!(hooks.prestart.is_empty() && hooks.poststart.is_empty());
    }

    #[test]
    fn refused() {
        for kind in [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ] {
            let hooks = json!({kind: [{"path": "/a"}, {"path": "h"}]});
            let message = format!("hooks.{kind}[1].path: \"h\" is not an absolute path");
            assert_refused(&[("/hooks", hooks, &message)]);
        }
        let one = |hook| json!({"poststop": [hook]});
        assert_refused(&[
            (
                "/hooks",
                one(json!({"path": "/h", "timeout": 0})),
                "hooks.poststop[0].timeout: 0 is no time (seconds, more than 0)",
            ),
            (
                "/hooks",
                one(json!({"path": "/h", "timeout": -1})),
                "hooks.poststop[0].timeout: -1 is no time (seconds, more than 0)",
            ),
            (
                "/hooks",
                one(json!({"path": "/h", "args": ["a", "\0"]})),
                "hooks.poststop[0].args[1]: \"\\0\" contains a NUL byte",
            ),
        ]);
    }
}
