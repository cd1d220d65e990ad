#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/io/json.h"
#include "calque/text/tokenizer.h"

namespace calque::text {

// Conversations become text by the model's own chat template.
struct ChatSettings {
  std::string name;                         // one of several templates; "": as transformers chooses
  io::Json variables = io::Json::object();  // more variables of the template
  std::string date = "2025-01-01";          // the day that the template sees
  bool plain = false;  // conversations that no template of the model can write become plain text

  bool operator==(const ChatSettings& other) const = default;
};

// A source of calibration or evaluation text.
struct TextSource {
  std::filesystem::path path;  // .txt, .jsonl, .json, each also with .gz or .zst
  // .jsonl and .json: key that holds the text, or a list of messages. Without it, a list under
  // "messages" or "conversations" is taken.
  std::string text_column = "text";
  std::optional<std::string>
      split_on;       // .txt: documents are separated by this; default: one document
  double weight = 0;  // share of the rows; 0: sources without a weight share the rest equally
  ChatSettings chat = {};
  bool may_run_out = false;  // if it has fewer rows than its share, the others give the rest
  double part = 1;  // share of what is meant by one entry of the job, which may be several sources
};

// Gives every source a weight if an entry of the job means several of them. Error(kConfig, "E204")
// for invalid weights.
void settle_weights(std::vector<TextSource>& sources);

enum class Packing {
  kConcat,    // documents joined, cut into full rows; a row may span documents
  kTruncate,  // one row per document of at least seqlen tokens, cut to seqlen; shorter ones are
              // counted as skipped
  kPad,       // one row per document, cut or padded to seqlen; padding never enters statistics
};

struct PackingOptions {
  std::int64_t n_samples =
      0;  // number of rows, exactly; if fewer are available: Error(kInput, "E201")
  std::int64_t seqlen = 0;  // tokens per row
  std::uint64_t seed = 0;   // seeds the shuffle that selects rows (kConcat: windows)
  Packing packing = Packing::kConcat;
  bool add_bos = true;  // begin every row with the tokenizer's prefix() (never twice)
  bool parse_special = true;
};

// Rows of token ids, each `seqlen` long, with the number of leading tokens that are real.
struct TokenBlocks {
  Matrix<std::int32_t> ids_BS;
  std::vector<std::int64_t> lengths_B;  // == seqlen except with kPad or a mask
  // The token that comes after each row, which is predicted but not read; -1: none. Empty: no row
  // has one.
  std::vector<std::int32_t> next_B = {};

  std::int64_t rows() const { return ids_BS.rows(); }
  std::int64_t seqlen() const { return ids_BS.cols(); }
  std::int32_t next(std::int64_t row) const {
    return next_B.empty() ? -1 : next_B[static_cast<std::size_t>(row)];
  }
  std::int64_t token_count() const;  // real tokens
};

// The exact data that was used, for calibration_manifest.json.
struct SourceReport {
  std::string path;    // file name only: no local folders in published files
  std::string sha256;  // hash of the file's bytes
  std::int64_t documents = 0;
  std::int64_t tokens = 0;  // in the source
  std::int64_t rows_available = 0;
  std::int64_t rows_used = 0;
  std::int64_t documents_skipped = 0;    // too short for kTruncate
  std::int64_t invalid_utf8 = 0;         // documents with replaced bytes
  std::int64_t plain_conversations = 0;  // documents that no chat template wrote
};
struct Manifest {
  std::vector<SourceReport> sources;
  std::string tokens_sha256;            // hash of ids_BS, int32 little-endian row-major
  std::string tokenizer;                // Tokenizer::description()
  std::vector<std::int32_t> first_ids;  // first 16 of the first row
};

struct PackedTokens {
  TokenBlocks blocks;
  Manifest manifest;
};

// Error(kConfig, "E106") if rows of these sizes cannot be packed, whatever the text.
void check_packing(const Tokenizer& tokenizer, const PackingOptions& options);

// The texts of a source. Conversations are rendered by the chat template of `model`, a folder or a
// GGUF file, and special tokens in them are always parsed. Error(kInput, "E217") if it has none.
std::vector<std::string> texts_of(const TextSource& source, const std::filesystem::path& model);

// Tokenizes and packs. E201 states the rows that each source can give, and the n_samples that would
// fit. `model` is for conversations, as in texts_of.
PackedTokens pack_tokens(const std::vector<TextSource>& sources, const Tokenizer& tokenizer,
                         const PackingOptions& options, const std::filesystem::path& model = {});

// The largest number of rows, up to options.n_samples, that pack_tokens can make.
std::int64_t rows_available(const std::vector<TextSource>& sources, const Tokenizer& tokenizer,
                            const PackingOptions& options, const std::filesystem::path& model = {});

// Evaluation windows take the tokens of a text in order, `seqlen` positions at a time. With a
// `prefix` (usually a BOS) each window begins with it, and the token that it pushes out at the end
// is still predicted (TokenBlocks::next_B). So a window with a BOS is `seqlen` tokens of the text,
// each predicted once, and llama-perplexity cuts the same windows. The prefix is never there twice:
// where the text has it already, at its beginning or where a window begins, no other is put.

// Windows of the whole file as one string, without shuffling; at most `windows` of them (0: all
// full ones). Error(kInput) if not even one window is full. Conversations follow each other as the
// chat template of `model` writes them.
PackedTokens consecutive_windows(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                 std::int64_t seqlen, std::int64_t windows,
                                 const TokenIds& prefix = {},
                                 const std::filesystem::path& model = {},
                                 const ChatSettings& chat = {});

// Loads pre-tokenized ids from a .safetensors file (tensor "input_ids", or its only integer tensor)
// of rank 1 (cut into full rows of `seqlen`) or rank 2 (one row each; `seqlen` 0 or the width keeps
// them whole, a smaller one cuts them). `n_samples` 0 takes all; more than there are is E201. Ids
// outside [0, vocab_size) are Error(kInput). With a `prefix` each row of the file is cut into
// windows as a text is. A tensor "attention_mask" of the same shape marks padding at the ends of
// rows by 0: it is not read, and the tokens that do not fill a window make a shorter one.
PackedTokens load_tokens(const std::filesystem::path& path, std::int64_t seqlen,
                         std::int64_t n_samples, std::int64_t vocab_size,
                         const TokenIds& prefix = {});
// Throws as load_tokens does; `count_key` is the job's key for the number of rows.
void check_tokens(const std::filesystem::path& path, std::int64_t seqlen, std::int64_t n_samples,
                  std::int64_t vocab_size, const TokenIds& prefix = {},
                  std::string_view count_key = "n_samples");

}  // namespace calque::text
