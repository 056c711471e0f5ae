/** Numbers, sizes and times as people read them; what is not known is a dash. */

const NOTHING = "–";
const timeOfDay = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const dateAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const whole = new Intl.NumberFormat();

export function number(value) {
  if (value == null) return NOTHING;
  if (value >= 10_000) return `${(value / 1000).toFixed(0)}k`;
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}

export function gib(mib) {
  return mib == null ? NOTHING : `${(mib / 1024).toFixed(1)} GiB`;
}

/** A duration in seconds. */
export function seconds(value) {
  if (value == null) return NOTHING;
  if (value > 0 && value < 0.01) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  if (value < 172_800) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86_400)} d`;
}

/** A duration in milliseconds; 0 is one that is not known. */
export function milliseconds(value) {
  return value ? seconds(value / 1000) : NOTHING;
}

/** A moment in the reader's zone. */
export function clock(unixSeconds) {
  return unixSeconds == null ? NOTHING : timeOfDay.format(unixSeconds * 1000);
}

export function date(unixSeconds) {
  return unixSeconds == null ? "never" : dateAndTime.format(unixSeconds * 1000);
}

/** A count with the groups of the reader's language. */
export function count(value) {
  return value == null ? NOTHING : whole.format(value);
}
