//! State of the optimizer in a resumed run, and the checkpoints that ranks write together.

use std::path::{Path, PathBuf};

use tch::{Kind, TchError, Tensor, no_grad};

use crate::checkpoint::averages::Averages;
use crate::checkpoint::parts::{PartWriter, Peers};
use crate::command::setup::SetupError;
use crate::distributed::World;
use crate::model::Glm;
use crate::model::parameters::Parameter;
use crate::optim::adamw::AdamW;
use crate::optim::shard::Part;
use crate::train::Records;

/// Gives each rank the averages of the parameters that it updates. Rank 0 reads them from `checkpoint` and sends them, one parameter at a
/// time, so that no rank holds all of them unless it needs them; the other ranks pass `None`.
pub(super) fn restore(
    checkpoint: Option<&Path>,
    model: &Glm,
    optimizer: &mut AdamW,
    world: Option<&World>,
) -> Result<(), SetupError> {
    let averages = checkpoint.map(Averages::open).transpose()?;
    let parameters = model.parameters();
    let parts = optimizer.shard().parts(parameters);
    for (moment, vector) in [("first", optimizer.exp_avg()), ("second", optimizer.exp_avg_sq())] {
        for (index, parameter) in parameters.iter().enumerate() {
            let (name, shape) = (&parameter.name, parameter.shape());
            let read = averages.as_ref().map(|averages| averages.read(moment, name, shape)).transpose()?;
            let whole = on_all_ranks(read, parameter, vector, world)?;
            for Part { elements, start, .. } in parts.iter().filter(|part| part.parameter == index) {
                let count = elements.end - elements.start;
                no_grad(|| vector.f_narrow(0, *start, count)?.f_copy_(&whole.f_narrow(0, elements.start, count)?).map(drop))?;
            }
        }
    }
    Ok(())
}

/// Sends the elements of a parameter from rank 0, which has `read` them, to all ranks. `like` has their device and kind.
fn on_all_ranks(read: Option<Tensor>, parameter: &Parameter, like: &Tensor, world: Option<&World>) -> Result<Tensor, TchError> {
    let options: (Kind, _) = (like.f_kind()?, like.device());
    let whole = match read {
        Some(read) => read.f_to_device_(options.1, options.0, false, false)?,
        None => Tensor::f_empty([parameter.shape().iter().product::<i64>()], options)?,
    };
    if let Some(world) = world {
        world.broadcast([&whole])?;
    }
    Ok(whole)
}

/// Makes all ranks write the checkpoints of the run in `root` together, each its part. Returns the writer of a rank other than 0.
pub(super) fn join_checkpoints(
    root: PathBuf,
    world: &World,
    records: Option<&mut Records>,
) -> Result<Option<PartWriter>, SetupError> {
    let peers = Peers::new(world.exchange()?);
    Ok(match records {
        Some(records) => {
            records.checkpoints.join(peers);
            None
        }
        None => Some(PartWriter::new(root, peers)),
    })
}
