// Replacement for gloo's header of the same name. ProcessGroupGloo.hpp uses nothing from it; see context.h.
#pragma once
