//! A xenstored that stands still. `xl` and the backends' own control hang with it; guests do not.

use std::time::Duration;

use anyhow::Result;

use crate::xen::{BOOT_LIMIT, Context, Guest, Test, Wish, XL_LIMIT, address};

pub(super) const TESTS: &[Test] = &[(
    "xenstored frozen: data flows, control operations time out",
    frozen,
)];

fn frozen(context: &Context) -> Result<()> {
    // More than the 10 s that an operation may take.
    let seconds = context.extent.pick(15, 60);
    let guest = Guest::serving(context, &Wish::new("http", "frozen", 127))?;
    let asker = Wish {
        append: vec!["store".to_owned()],
        interfaces: Vec::new(),
        ..Wish::new("xen-probe", "frozen-asker", 0)
    };
    let asker = Guest::create(context, &asker)?;
    asker.explain(asker.wait_for("STORE answers", BOOT_LIMIT))?;
    // Always thawed again: nothing in dom0 works without it.
    let script = format!(
        "head -c 2000000 /dev/urandom >/tmp/frozen.data
         sum=$(sha256sum </tmp/frozen.data); transfers=0; wrong=0
         store=$(pidof xenstored || pidof oxenstored) || exit 2
         trap 'kill -CONT $store' EXIT
         kill -STOP $store
         end=$((SECONDS + {seconds}))
         while [ $SECONDS -lt $end ]; do
           back=$(curl -sS --max-time 60 --data-binary @/tmp/frozen.data http://{}/echo | sha256sum)
           [ \"$back\" = \"$sum\" ] || wrong=$((wrong + 1))
           transfers=$((transfers + 1))
         done
         rm -f /tmp/frozen.data
         echo $transfers transfers; [ $wrong = 0 ] || {{ echo $wrong of them wrong; exit 1; }}",
        address(127)
    );
    let limit = Duration::from_secs(seconds) + 2 * XL_LIMIT;
    let transfers = guest.explain(context.sh(&script, limit))?;
    context.measurements.note(
        "transfers of 2 MB while xenstored stood still",
        format!("{} in {seconds} s", transfers.trim()),
    );
    let line = asker.explain(asker.wait_for("STORE fails", XL_LIMIT))?;
    asker.explain(match line.contains("read of") && line.contains("domid") {
        true => Ok(()),
        false => Err(anyhow::anyhow!("`{line}` names neither operation nor node")),
    })?;
    asker.explain(asker.wait_for("STORE answers again", XL_LIMIT))?;
    // The other's control works again, too.
    guest.explain(context.sh(&format!("xl sysrq {} x", guest.name), XL_LIMIT))?;
    guest.explain(guest.wait_for("sysrq x: end", XL_LIMIT))?;
    Ok(())
}
