// Stands in for gloo's header of this name, of which ProcessGroupGloo.hpp needs nothing; see ../context.h.
#pragma once
