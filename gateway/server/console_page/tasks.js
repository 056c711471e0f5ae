/** Tasks: commands of ew's own that run in the background (docs/admin.md). */
import { ApiFailure, ask, pause } from "./api.js";
import { ADMIN } from "./live.js";

const LOOK_EVERY_MS = 500;

/** Have a task run, and return it when it has ended. Throws `ApiFailure`, also if it failed. */
export async function runTask(kind, wanted) {
  const { id } = await ask("POST", `${ADMIN}/tasks/${kind}`, wanted);
  for (;;) {
    const task = await ask("GET", `${ADMIN}/tasks/${id}`);
    if (task.state === "done") return task;
    if (task.state !== "running") throw new ApiFailure(0, task.state, task.last_line || `it is ${task.state}`);
    await pause(LOOK_EVERY_MS);
  }
}
