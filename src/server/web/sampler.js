// The panel of sampling settings, made from the server's own table of fields. A field that is empty is left to the model.
import { get } from "./api.js";

const place = "tritllm.sampler";
const shown = ["temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "seed", "max_tokens"];
export const presets = {
  "The model's own": {},
  "Exact: the most probable token": { temperature: 0 },
  "Balanced": { temperature: 0.7, top_p: 0.95 },
  "Lively": { temperature: 1, min_p: 0.05 },
};

let values = {};
try {
  values = JSON.parse(localStorage.getItem(place) ?? "{}") ?? {};
} catch {
  values = {};
}

export const settings = () => ({ ...values });

function keep() {
  localStorage.setItem(place, JSON.stringify(values));
}

function field(name, schema, value, standard) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  const help = document.createElement("small");
  label.textContent = name;
  input.type = "number";
  input.step = [schema.type].flat().includes("integer") ? "1" : "any";
  if (schema.minimum !== undefined) input.min = schema.minimum;
  if (schema.maximum !== undefined) input.max = schema.maximum;
  input.value = value ?? "";
  input.placeholder = standard ?? "";
  help.textContent = schema.description ?? "";
  input.addEventListener("change", () => {
    if (input.value === "" || !input.checkValidity()) delete values[name];
    else values[name] = Number(input.value);
    input.reportValidity();
    keep();
  });
  label.append(input, help);
  return label;
}

export async function build(target, defaults) {
  const description = await get("/openapi.json");
  const schema = description.paths["/v1/chat/completions"].post.requestBody.content["application/json"].schema.properties;
  const draw = () => target.replaceChildren(...shown.filter((name) => schema[name]).map((name) => field(name, schema[name], values[name], defaults[name])));
  draw();
  return (chosen) => {
    values = { ...chosen };
    keep();
    draw();
  };
}
