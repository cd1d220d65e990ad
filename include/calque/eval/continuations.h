#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/eval/evaluate.h"
#include "calque/text/tokenizer.h"

// Models after given tokens: the likelihood of texts that may follow, and the text that a
// model writes itself. Streamed block by block like the perplexity's evaluation, so that memory is
// bounded by a pass's tokens; with more tokens the blocks are read again for each further pass.

namespace calque::eval {

// Tokens of a pass at most, unless a single sequence is longer. 65536 tokens of an 8B model keep
// 1 GiB of hidden states a model, and reading its blocks once more is little beside computing them.
inline constexpr Index kTokensAPass = Index{1} << 16;

// A sequence that the models read, with what may follow it.
struct Continuation {
  text::TokenIds before;  // at least one
  text::TokenIds tokens;  // at least one
  std::string name = {};  // for messages: "question 3"
};

struct ContinuationScore {
  double log_likelihood = 0;  // sum of ln p(token | all before it), in nats
  bool greedy = false;        // each token is the most likely one (the first of equals)
};

struct PassOptions {
  EvalOptions eval;  // progress counts all passes; first_position is not used
  Index tokens_a_pass = kTokensAPass;
};

// scores[m][i]: model m, the reference first, of continuations[i]. Continuations that begin with
// the same tokens and are scored from them alone (one token each, as the letters of choices are)
// share a row. Errors as evaluate(): E231, E233, and E403 for logits that are not finite.
std::vector<std::vector<ContinuationScore>> score_continuations(
    const EvalModel& reference, const std::vector<EvalModel>& candidates,
    std::span<const Continuation> continuations, const PassOptions& options);

// Number of passes over the blocks that this takes.
Index continuation_passes(std::span<const Continuation> continuations, Index tokens_a_pass);

struct Prompt {
  text::TokenIds tokens;  // at least one
  std::string name = {};  // for messages
};

struct GreedyOptions {
  PassOptions pass;
  Index max_new_tokens = 1;
  // True if a sequence is at its end; called after each of its tokens. `prompt` is an index.
  std::function<bool(Index prompt, const text::TokenIds& written)> ended;
};

// Passes of one model over its blocks, if no sequence ends early.
Index greedy_passes(std::span<const Prompt> prompts, const GreedyOptions& options);

// written[m][i]: the most likely token after prompts[i], again and again (the first of equals),
// until it ends or is `max_new_tokens` long; the token that ended it is its last. Each model reads
// its own tokens, so nothing depends on which others are measured. No keys and values are kept
// between tokens: each token takes a pass over the blocks with all sequences that have not ended,
// from their beginning.
std::vector<std::vector<text::TokenIds>> write_greedily(const EvalModel& reference,
                                                        const std::vector<EvalModel>& candidates,
                                                        std::span<const Prompt> prompts,
                                                        const GreedyOptions& options);

}  // namespace calque::eval
