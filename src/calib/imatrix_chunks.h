#pragma once

#include "calque/calib/collect_imatrix.h"
#include "calque/text/corpus.h"
#include "calque/text/tokenizer.h"

namespace calque::calib {

// Rows of the request's chunk size, in the order of the texts. Error(kInput, "E201") for a text
// that does not fill one.
text::TokenBlocks imatrix_chunks(const ImatrixRequest& request, const text::Tokenizer& tokenizer);

}  // namespace calque::calib
