#include "calque/quant/methods.h"

namespace calque::quant {

const std::vector<MethodInfo>& methods() {
  static const std::vector<MethodInfo> kMethods = {
      {"rtn", "round every weight to the nearest value of its grid; needs no text", false},
      {"awq",
       "rescale input channels so that important ones lie on finer grids, then round to nearest",
       true},
      {"gptq", "round column by column and let later columns make up for the errors so far", true},
  };
  return kMethods;
}

}  // namespace calque::quant
