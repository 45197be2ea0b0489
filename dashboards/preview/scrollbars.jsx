// In place of react-custom-scrollbars-2, whose default export is lost between two kinds of modules: an image does not scroll.

import { forwardRef } from "react";

export const Scrollbars = forwardRef(function Scrollbars({ children, style }, ref) {
  return <div ref={ref} style={{ height: "100%", overflow: "hidden", ...style }}>{children}</div>;
});

export default Scrollbars;
