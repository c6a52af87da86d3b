// Owns the steps that narrow the tokens a sampler may draw: each is a function of the candidates alone, and what is left stands
// in an order that every machine agrees on. Does not own penalties, temperature and the draw (sampling/sampler.h).
#pragma once

#include <cstdint>
#include <vector>

namespace tritllm {

struct Candidate {
  uint32_t token;
  float logit;    // finite
  double weight;  // proportional to its probability, as the last call of weigh() left it
};

// Never empty: every step below keeps at least one candidate.
using Candidates = std::vector<Candidate>;

// Sets each weight to exp(logit / temperature) relative to the largest, and returns their sum.
double weigh(Candidates& candidates, double temperature = 1);

// The `count` largest logits; of equal ones the lower tokens. The probabilities of the steps below are those among the
// candidates left by the step before.
void keep_top_k(Candidates& candidates, uint32_t count);

// The fewest candidates whose surprise (-log p) is nearest to the expected surprise and that have `share` of the probability.
void keep_typical(Candidates& candidates, double share);

// The fewest most probable candidates that have `share` of the probability.
void keep_top_p(Candidates& candidates, double share);

// All candidates whose probability is at least `ratio` times the largest one.
void keep_min_p(Candidates& candidates, double ratio);

}  // namespace tritllm
