#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "calque/io/imatrix.h"
#include "calque/record/observer.h"
#include "calque/text/corpus.h"
#include "calque/text/tokenizer.h"

namespace calque::calib {

struct ImatrixRequest {
  std::filesystem::path model;               // folder or GGUF file, with tokenizer
  std::vector<std::filesystem::path> texts;  // each also .gz or .zst
  std::int64_t chunk_size = 512;             // tokens
  std::int64_t chunks = 0;                   // of each text, from its start; 0: all full ones
  bool parse_special = false;                // text that spells a special token becomes that token
  bool process_output = false;               // the input of what makes the logits, too
  std::string forward_dtype = "float32";
  int threads = 0;
};

// Rows of the request's chunk size, in the order of the texts. Error(kInput, "E201") for a text
// that does not fill one.
text::TokenBlocks imatrix_chunks(const ImatrixRequest& request, const text::Tokenizer& tokenizer);

// Measures the inputs of the unquantized model's linears as llama-imatrix does: each text tokenized
// whole, cut into chunks, the first token of each overwritten by BOS where the tokenizer adds one
// (formats_gguf.md section 6.5). Streams the model block by block: beside one block's weights, the
// hidden states of all chunks are in memory. Does not depend on the number of threads.
io::Imatrix collect_imatrix(const ImatrixRequest& request, record::Observer& observer);

}  // namespace calque::calib
