// Two models on one prompt: how far apart their probabilities are, token by token, along the answers that they wrote.
import { post } from "./api.js";

const alternatives = 20;  // the most that the server tells
const shown = 3;
const least = 1e-7;  // what is left of a distribution after rounding

// The Kullback-Leibler divergence of `other` from `reference` in nats, as far as their most probable tokens show it: tokens that both
// know of stand for themselves, all others together. Putting tokens together can only make it smaller, so it is a lower bound.
export function divergence(reference, other) {
  let sum = 0;
  let rest = 1;
  let otherRest = 1;
  for (const [token, logprob] of Object.entries(reference)) {
    if (!Object.hasOwn(other, token)) continue;
    sum += Math.exp(logprob) * (logprob - other[token]);
    rest -= Math.exp(logprob);
    otherRest -= Math.exp(other[token]);
  }
  rest = Math.max(rest, least);
  return Math.max(0, sum + rest * Math.log(rest / Math.max(otherRest, least)));
}

const equal = (one, other) => one.length === other.length && one.every((token, i) => token === other[i]);

async function tokensOf(models, text, signal) {
  const [one, other] = await Promise.all(models.map((model) => post("/tokenize", { model, ...text }, signal)));
  if (!equal(one.tokens, other.tokens)) throw new Error(`${models.join(" and ")} divide text into different tokens, so their probabilities cannot be compared.`);
  return one.tokens;
}

// A model's probabilities of the tokens from `first` on: [{ token, logprob, top }].
async function along(model, tokens, first, signal) {
  const answer = await post("/v1/completions", { model, prompt: tokens, echo: true, max_tokens: 0, logprobs: alternatives }, signal);
  const { tokens: names, token_logprobs: logprobs, top_logprobs: tops } = answer.choices[0].logprobs;
  return names.slice(first).map((token, i) => ({ token, logprob: logprobs[first + i], top: tops[first + i] }));
}

const rounded = (value) => Math.round(value * 1e4) / 1e4;
const best = (top) => Object.entries(top).sort((one, other) => other[1] - one[1]).slice(0, shown).map(([token, logprob]) => [token, rounded(Math.exp(logprob))]);

// For each of the answers, for each of its tokens: { token, nats, probabilities: [of each model], best: [of each model] }. The divergence is
// that of the second model from the first. Throws where the models' tokens differ.
export async function compare(models, messages, answers, signal) {
  const prompt = await tokensOf(models, { messages }, signal);
  return Promise.all(answers.map(async (text) => {
    const tokens = await tokensOf(models, { prompt: text, add_special_tokens: false }, signal);
    const [reference, other] = await Promise.all(models.map((model) => along(model, [...prompt, ...tokens], prompt.length, signal)));
    return reference.map((place, i) => ({
      token: place.token, nats: rounded(divergence(place.top, other[i].top)),
      probabilities: [place, other[i]].map(({ logprob }) => rounded(Math.exp(logprob))), best: [best(place.top), best(other[i].top)],
    }));
  }));
}

// Mean over the tokens, and the token where the models are farthest apart.
export function summary(places) {
  const mean = places.reduce((sum, place) => sum + place.nats, 0) / places.length;
  return { mean, farthest: places.reduce((most, place) => (place.nats > most.nats ? place : most)) };
}
