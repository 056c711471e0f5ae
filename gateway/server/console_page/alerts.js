/** What an operator should know, in words, with the next step. */

const HOT_C = 88;

/** Return `{ level, text, next }` for each thing that is not as it should be, the worst first. */
export function alertsOf(status) {
  const found = [
    ...ofHost(status),
    ...status.models.flatMap(ofModel),
    ...status.gpus.flatMap(ofGpu),
    ...ofConfiguration(status.config),
  ];
  return found.sort((one, other) => (one.level === "bad" ? 0 : 1) - (other.level === "bad" ? 0 : 1));
}

function ofHost({ supervisor, gateway, redis, gpus, gpu_problem: problem, host_problem: unnamed, keys_problem: keys }) {
  const found = [];
  if (!supervisor) {
    found.push(bad("Nothing is supervised on this host", "./ew start starts what is configured"));
  } else if (!supervisor.alive) {
    found.push(bad("The supervisor of this host is gone: what is shown is its last word", "any ./ew command that starts something brings it back; logs/supervisor.log says why it went"));
  }
  if (redis && redis.state !== "ready") {
    found.push(bad(`The queue's server is ${redis.state}${redis.stage ? `: ${redis.stage}` : ""}`, redis.problem?.hint || "see the log of valkey"));
  }
  if (redis?.append_only_file === false) {
    found.push(warn("The queue's server keeps no append-only file: if it dies, jobs and answers are lost", "set `appendonly yes` on that server (docs/configuration.md, redis.url)"));
  }
  if (gateway?.problem) found.push(bad(`The gateway: ${gateway.problem.message}`, gateway.problem.hint || "see the log of gateway"));
  if (unnamed) found.push(warn(`This host cannot be told from others: ${unnamed}`, "EW_HOST_NAME gives it a name of its own"));
  if (keys) found.push(bad(`This host does not share API keys as it should: ${keys}`, "see docs/keys.md, keys of several hosts"));
  // A host without GPUs lacks nothing: a model that needs one says so itself.
  if (problem && gpus.length) found.push(warn(`The GPUs' figures are not known: ${problem}`, "./ew doctor looks at the driver"));
  return found;
}

function ofModel(model) {
  const found = model.workers
    .filter((worker) => worker.problem)
    .map(({ slot, state, problem }) =>
      (state === "failed" ? bad : warn)(`${slot}: ${problem.message}`, problem.hint || `see the log of ${slot}`),
    );
  if (model.waiting > 0 && model.load === "always" && !["ready", "starting"].includes(model.state)) {
    found.push(bad(`${model.waiting} jobs wait for ${model.id}, which is ${model.state}`, `./ew start ${model.id}`));
  }
  return found;
}

function ofGpu({ index, problem, temperature_c: celsius }) {
  const found = [];
  if (problem) found.push(bad(`GPU ${index} cannot be used: ${problem}`, "./ew doctor says more"));
  if (celsius >= HOT_C) found.push(warn(`GPU ${index} has ${celsius} °C`, "look at its cooling: it will slow down"));
  return found;
}

function ofConfiguration({ waiting, problem }) {
  if (problem) return [warn(`The configuration file cannot be used: ${problem}`, "./ew config check; until then the last good one holds")];
  if (!waiting.length) return [];
  return [warn(`Changes of the configuration wait for a restart: ${waiting.join(", ")}`, "a model's Restart on the page Models applies those of its entry; ./ew config diff shows what applies each")];
}

const bad = (text, next) => ({ level: "bad", text, next });
const warn = (text, next) => ({ level: "warn", text, next });
