//! Self-contained HTML pages with charts drawn as SVG.
