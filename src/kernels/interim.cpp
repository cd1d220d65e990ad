#include "calque/kernels/pack_bits.h"

namespace calque {

void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN, const Exec&) {
  pack_columns(codes_KN, bits, words_PN);
}

void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits, MatrixView<std::int32_t> words_RP,
               const Exec&) {
  pack_rows(codes_RC, bits, words_RP);
}

}  // namespace calque
