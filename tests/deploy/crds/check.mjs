// Reads a JSON array of objects from standard input, and says what their custom resource definitions
// have against them: a line for each.
import { readFileSync } from "node:fs";
import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";

const kinds = { HTTPRoute, ScaledObject, ServiceMonitor };
for (const given of JSON.parse(readFileSync(0, "utf8"))) {
  const { apiVersion, kind, ...rest } = given;
  const made = new kinds[kind](rest);
  if (made.apiVersion !== apiVersion) console.log(`${kind}: ${apiVersion} is ${made.apiVersion}`);
  try {
    made.validate();
  } catch (error) {
    console.log(`${kind} ${rest.metadata.name}: ${error.message}`);
  }
}
