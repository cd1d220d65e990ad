#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "calque/job/job.h"
#include "calque/resume/shared_work.h"
#include "calque/text/corpus.h"

namespace calque::job {

// Loads the tokenizer if the job reads text: what is wrong with it shows before any work.
void check_tokenizer(const Job& job);

// `shared`: where another job may have put them; null: nowhere.
text::PackedTokens calibration_tokens(const Job& job, Index vocab_size,
                                      resume::SharedWork* shared = nullptr);
// `text` with its number of windows filled in; `model`: where the tokenizer is.
text::PackedTokens evaluation_tokens(const EvaluationText& text, Index seqlen,
                                     const std::filesystem::path& model, Index vocab_size,
                                     resume::SharedWork* shared = nullptr);

// The BOS that llama-perplexity would put first; none for pre-tokenized ids or a tokenizer without.
std::optional<std::int32_t> bos_of(const EvaluationText& text, const std::filesystem::path& model);

}  // namespace calque::job
