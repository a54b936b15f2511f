// The page of links: its one dialog.
import { startDialog } from "./dialog.js";

startDialog();
